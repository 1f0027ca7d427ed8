"""The kernels by name. To add one: write a function that returns a kernel and list it in KERNELS, or name it in a
configuration as `module:function` without touching this package.

Every builder takes the `Vocabulary` and its own options as keyword arguments; `schedule` is among them where alpha may
be exchanged.
"""

import dataclasses
import importlib
import inspect
import sys

import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose, nearest
from semdlm_jax.kernels import branches
from semdlm_jax.kernels.dense import SoftmaxKernel
from semdlm_jax.kernels.family import Kernel
from semdlm_jax.kernels.neighbours import NeighbourTable
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.schedules import Linear
from semdlm_jax.kernels.vocabulary import Vocabulary
from semdlm_jax.options import OWN


def absorbing(vocabulary, *, schedule=Linear()):
    """Tokens become MASK (Eq. 5; D3PM-mask, MDLM, SEDD-absorb)."""
    prior = GlobalPrior.point(vocabulary.size, vocabulary.mask_id)
    return Kernel(NeighbourTable.empty(vocabulary.size), prior, branches.Global(schedule), vocabulary.mask_id)


def uniform(vocabulary, *, schedule=Linear()):
    """Tokens become any token of the vocabulary with equal chance (Eq. 6; D3PM-uniform, SEDD-uniform, UDLM)."""
    prior = GlobalPrior.uniform(vocabulary.size)
    return Kernel(NeighbourTable.empty(vocabulary.size), prior, branches.Global(schedule))


def unigram(vocabulary, *, schedule=Linear(), tau=1.0):
    """Tokens become any token of the training text, by its frequency to the power tau (the marginal kernel)."""
    prior = GlobalPrior.unigram(vocabulary.require("unigram"), tau=tau)
    return Kernel(NeighbourTable.empty(vocabulary.size), prior, branches.Global(schedule))


def hybrid(vocabulary, *, schedule=Linear(), uniform_share=0.1, hybrid_gamma=1.0):
    """Tokens become MASK, and in between any other token: at most a share `uniform_share` of them (GIDD's p_u)."""
    prior = GlobalPrior.uniform_without(vocabulary.size, vocabulary.mask_id)
    mixture = branches.Hybrid(uniform_share, hybrid_gamma, schedule)
    return Kernel(NeighbourTable.empty(vocabulary.size), prior, mixture, vocabulary.mask_id)


def semantic_knn(vocabulary, *, schedule=Linear(), gamma=1.0, prior="uniform", tau=1.0, least=1):
    """Tokens drift to their k_t nearest neighbours and nowhere else (Eq. 7, SemDLM); a row too short for k_t gives what
    it cannot place to the prior.

    What is left at t = 1 tells of the text. The best that a model can start from without knowing it is what the
    training text becomes, token by token: that is the start, where the frequencies of its tokens are known.
    """
    table = vocabulary.require("table")
    mixture = branches.Semantic(table.k_max, gamma, schedule)
    kernel = Kernel(table, _global_prior(vocabulary, prior, tau, least), mixture)
    if vocabulary.unigram is None:
        return kernel
    # Half a count for every token, so that no noise is impossible.
    frequencies = jnp.asarray(vocabulary.unigram + 0.5, jnp.result_type(float))
    end = kernel.push_forward(frequencies / jnp.sum(frequencies), jnp.ones(()))
    return dataclasses.replace(kernel, start=GlobalPrior.from_probs(end))


def semantic_softmax(vocabulary, *, schedule=Linear(), tau_min=0.05, tau_scale=0.1):
    """Tokens drift by softmax(similarity / tau_t) over all tokens, tau_t rising from tau_min to infinity (Eq. 8)."""
    return SoftmaxKernel.build(vocabulary.require("embeddings"), schedule, tau_min, tau_scale)


def semdlm_plus(vocabulary, *, schedule=Linear(), gamma=1.0, prior="uniform", tau=1.0, least=1):
    """Tokens drift to their k_t nearest neighbours and jump anywhere: alpha = 1 - t, beta = t^2 (Eq. 22)."""
    table = vocabulary.require("table")
    mixture = branches.SemanticThenGlobal(table.k_max, gamma, schedule)
    return Kernel(table, _global_prior(vocabulary, prior, tau, least), mixture)


def semdlm_plus_practical(
    vocabulary,
    *,
    schedule=Linear(),
    gamma=1.0,
    alpha_min=0.0,
    alpha_power=1.0,
    beta_max=1.0,
    beta_power=2.0,
    prior="uniform",
    tau=1.0,
    least=1,
):
    """SemDLM+ with the practical schedule of Eq. 117-118."""
    table = vocabulary.require("table")
    mixture = branches.Practical(
        table.k_max,
        gamma,
        schedule,
        alpha_min=alpha_min,
        alpha_power=alpha_power,
        beta_max=beta_max,
        beta_power=beta_power,
    )
    return Kernel(table, _global_prior(vocabulary, prior, tau, least), mixture)


def semantic_mask(vocabulary, *, schedule=Linear(), gamma=1.0):
    """Tokens drift to their k_t nearest neighbours and become MASK: SemDLM+ with the mask as its global branch."""
    table = vocabulary.require("table")
    prior = GlobalPrior.point(vocabulary.size, vocabulary.mask_id)
    return Kernel(table, prior, branches.SemanticThenGlobal(table.k_max, gamma, schedule), vocabulary.mask_id)


def _global_prior(vocabulary, name, tau, least):
    return choose("prior", name, PRIORS)(vocabulary, tau, least)


PRIORS = {
    "uniform": lambda vocabulary, tau, least: GlobalPrior.uniform(vocabulary.size),
    "unigram": lambda vocabulary, tau, least: GlobalPrior.unigram(
        vocabulary.require("unigram"), vocabulary.valid, tau, least
    ),
}

KERNELS = {
    "absorbing": absorbing,
    "uniform": uniform,
    "unigram": unigram,
    "hybrid": hybrid,
    "semantic_knn": semantic_knn,
    "semantic_softmax": semantic_softmax,
    "semdlm_plus": semdlm_plus,
    "semdlm_plus_practical": semdlm_plus_practical,
    "semantic_mask": semantic_mask,
}


def find_kernel(name):
    """The builder of this name: one of KERNELS, or `module:function` of the caller's own. UserError for neither."""
    if ":" not in name:
        return choose("kernel", name, KERNELS)
    if not OWN.fullmatch(name):
        raise UserError(f"kernel {name!r} is no name of a function: give module:function")
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # whatever the user's own module does
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"kernel {name!r} cannot be imported ({cause}): run where Python finds {module}") from None
    if not _builds_kernels(found):
        raise UserError(
            f"kernel {name!r} is not the builder of a kernel: give a function (vocabulary, *, option=default, …)"
        )
    return found


def _builds_kernels(function):
    """Whether its signature is that of a builder: nothing else is ever called."""
    try:
        first, *options = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # no function, or one without a signature or parameters
        return False
    return first.name == "vocabulary" and all(option.default is not option.empty for option in options)


def kernel_options(name):
    """The options of a kernel and their defaults, by name."""
    _, *options = inspect.signature(find_kernel(name)).parameters.values()
    return {option.name: option.default for option in options}


def is_imported(name):
    """Whether using a kernel of this name runs no code that this process has not run: it is one of KERNELS, or its
    module has been imported."""
    return ":" not in name or name.partition(":")[0] in sys.modules


def make_kernel(name, vocabulary: Vocabulary, **options):
    """Builds the named kernel. UserError for an unknown name or option, or when the vocabulary lacks what it needs."""
    known = kernel_options(name)
    for option in options:
        if option not in known:
            raise UserError(f"kernel {name!r} has no option {option!r}: {nearest(option, known or {'none'})}")
    return find_kernel(name)(vocabulary, **options)
