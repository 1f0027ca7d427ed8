"""The kernels by name. To add one: extend `KernelSpec` and list it in KERNELS, or name it in a configuration as
`module:Class` without touching this package.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.kernels import branches
from semdlm_jax.kernels.mask_rates import FREQUENCY_POWERS, MaskRates, frequency_powers
from semdlm_jax.kernels.neighbors import NeighborTable
from semdlm_jax.kernels.nested_spec import Nested
from semdlm_jax.kernels.prior import EXPONENT, MIN_COUNT, PRIOR, UNIGRAM, GlobalPrior
from semdlm_jax.kernels.protocol import KernelBase
from semdlm_jax.kernels.softmax import TAU_MIN, TAU_SCALE, SoftmaxKernel
from semdlm_jax.kernels.sparse import Kernel
from semdlm_jax.kernels.spec import KernelSpec
from semdlm_jax.kernels.vocabulary import Vocabulary
from semdlm_jax.options import numbers_in, shown
from semdlm_jax.plugins import Registry, field


@dataclasses.dataclass(frozen=True)
class Absorbing(KernelSpec):
    """Tokens become MASK (Eq. 5; D3PM-mask, MDLM, SEDD-absorb); with `frequency_powers` at rates of their own."""

    frequency_powers: str = field(FREQUENCY_POWERS)

    def build(self, vocabulary):
        if powers := numbers_in("kernel.frequency_powers", self.frequency_powers, "[0.01, 100]"):
            by_token = frequency_powers(vocabulary.require("unigram"), powers)
            return MaskRates.build(by_token, self.schedule, vocabulary.mask_id)
        prior = GlobalPrior.point(vocabulary.size, vocabulary.mask_id)
        mixture = branches.Global(schedule=self.schedule)
        return Kernel(NeighborTable.empty(vocabulary.size), prior, mixture, vocabulary.mask_id)


@dataclasses.dataclass(frozen=True)
class Uniform(KernelSpec):
    """Tokens become any token of the vocabulary with equal chance (Eq. 6; D3PM-uniform, SEDD-uniform, UDLM)."""

    def build(self, vocabulary):
        prior = GlobalPrior.uniform(vocabulary.size)
        return Kernel(NeighborTable.empty(vocabulary.size), prior, branches.Global(schedule=self.schedule))


@dataclasses.dataclass(frozen=True)
class Unigram(KernelSpec):
    """Tokens become any token of the training text, by its frequency to a power (the marginal kernel)."""

    prior_exponent: float = field(EXPONENT)

    def build(self, vocabulary):
        prior = GlobalPrior.unigram(vocabulary.require("unigram"), exponent=self.prior_exponent)
        return Kernel(NeighborTable.empty(vocabulary.size), prior, branches.Global(schedule=self.schedule))


@dataclasses.dataclass(frozen=True)
class Hybrid(KernelSpec):
    """Tokens become MASK, and in between any other token: at most a share `uniform_share` of them (GIDD's p_u)."""

    uniform_share: float = field(branches.UNIFORM_SHARE)
    hybrid_gamma: float = field(branches.HYBRID_GAMMA)

    def build(self, vocabulary):
        prior = GlobalPrior.uniform_without(vocabulary.size, vocabulary.mask_id)
        mixture = branches.Hybrid(uniform_share=self.uniform_share, gamma=self.hybrid_gamma, schedule=self.schedule)
        return Kernel(NeighborTable.empty(vocabulary.size), prior, mixture, vocabulary.mask_id)


@dataclasses.dataclass(frozen=True)
class _Drifting(KernelSpec):
    """Tokens drift to their neighbors."""

    gamma: float = field(branches.GAMMA)

    needs_neighbors = True


@dataclasses.dataclass(frozen=True)
class _DriftingAndJumping(_Drifting):
    """prior, prior_exponent, min_count: of the global branch."""

    prior: str = field(PRIOR)
    prior_exponent: float = field(dataclasses.replace(EXPONENT, only=UNIGRAM))
    min_count: int = field(dataclasses.replace(MIN_COUNT, only=UNIGRAM))

    def global_prior(self, vocabulary: Vocabulary) -> GlobalPrior:
        return choose("prior", self.prior, PRIORS)(vocabulary, self.prior_exponent, self.min_count)


@dataclasses.dataclass(frozen=True)
class SemanticKnn(_DriftingAndJumping):
    """Tokens drift to their k_t nearest neighbors and nowhere else (Eq. 7, SemDLM). The weight that a row of fewer
    neighbors cannot place goes to the prior.

    x_1 still depends on x_0. Sampling therefore starts from the distribution of x_1 over training text, token by token,
    where the frequencies of tokens are known; else from the prior.
    """

    def build(self, vocabulary):
        table = vocabulary.require("table")
        mixture = branches.Semantic(k_max=table.k_max, gamma=self.gamma, schedule=self.schedule)
        kernel = Kernel(table, self.global_prior(vocabulary), mixture)
        if vocabulary.unigram is None:
            return kernel
        # Half a count for every token, so that no noise is impossible.
        frequencies = jnp.asarray(vocabulary.unigram + 0.5, jnp.result_type(float))
        end = kernel.push_forward(frequencies / jnp.sum(frequencies), jnp.ones(()))
        return dataclasses.replace(kernel, start=GlobalPrior.from_probs(end))


@dataclasses.dataclass(frozen=True)
class SemanticSoftmax(KernelSpec):
    """Tokens drift by softmax(similarity / tau_t) over all tokens, tau_t rising from tau_min to infinity (Eq. 8)."""

    tau_min: float = field(TAU_MIN)
    tau_scale: float = field(TAU_SCALE)

    needs_neighbors = True  # the embeddings that its table comes with

    def build(self, vocabulary):
        return SoftmaxKernel.build(vocabulary.require("embeddings"), self.schedule, self.tau_min, self.tau_scale)


@dataclasses.dataclass(frozen=True)
class SemDLMPlus(_DriftingAndJumping):
    """Tokens drift to their k_t nearest neighbors and jump anywhere: alpha = 1 - t, beta = t^2 (Eq. 22)."""

    def build(self, vocabulary):
        table = vocabulary.require("table")
        mixture = branches.SemanticThenGlobal(k_max=table.k_max, gamma=self.gamma, schedule=self.schedule)
        return Kernel(table, self.global_prior(vocabulary), mixture)


@dataclasses.dataclass(frozen=True)
class SemDLMPlusPractical(_DriftingAndJumping):
    """SemDLM+ with the practical schedule of Eq. 117-118."""

    alpha_min: float = field(branches.ALPHA_MIN)
    alpha_power: float = field(branches.ALPHA_POWER)
    beta_max: float = field(branches.BETA_MAX)
    beta_power: float = field(branches.BETA_POWER)

    def build(self, vocabulary):
        table = vocabulary.require("table")
        mixture = branches.Practical(
            k_max=table.k_max,
            gamma=self.gamma,
            alpha_min=self.alpha_min,
            alpha_power=self.alpha_power,
            beta_max=self.beta_max,
            beta_power=self.beta_power,
            schedule=self.schedule,
        )
        return Kernel(table, self.global_prior(vocabulary), mixture)


@dataclasses.dataclass(frozen=True)
class SemanticMask(_Drifting):
    """Tokens drift to their k_t nearest neighbors and become MASK: SemDLM+ with the mask as its global branch."""

    def build(self, vocabulary):
        table = vocabulary.require("table")
        prior = GlobalPrior.point(vocabulary.size, vocabulary.mask_id)
        mixture = branches.SemanticThenGlobal(k_max=table.k_max, gamma=self.gamma, schedule=self.schedule)
        return Kernel(table, prior, mixture, vocabulary.mask_id)


PRIORS = {
    "uniform": lambda vocabulary, exponent, min_count: GlobalPrior.uniform(vocabulary.size),
    "unigram": lambda vocabulary, exponent, min_count: GlobalPrior.unigram(
        vocabulary.require("unigram"), vocabulary.valid, exponent, min_count
    ),
}

KERNELS = Registry(
    "kernel",
    KernelSpec,
    {
        "absorbing": Absorbing,
        "uniform": Uniform,
        "unigram": Unigram,
        "hybrid": Hybrid,
        "semantic_knn": SemanticKnn,
        "semantic_softmax": SemanticSoftmax,
        "semdlm_plus": SemDLMPlus,
        "semdlm_plus_practical": SemDLMPlusPractical,
        "semantic_mask": SemanticMask,
        "nested": Nested,
    },
)


def make_kernel(name: str, vocabulary: Vocabulary, **options: Any) -> KernelBase:
    """Builds a kernel by its name: q_t(j | i) = alpha_t 1[j = i] + m_t(j | i), with noise m_t of mass 1 - alpha_t.

    Args:
        name: of KERNELS, or `module:Class` of a user's own.
        vocabulary: the tokens that it corrupts.
        **options: fields of the kernel's class; `schedule` is a `schedules.Schedule`.

    Raises:
        UserError: an unknown name or option, or a vocabulary that lacks what the kernel needs.

    Example: a quarter of the tokens are masked at t = 0.25, by the linear schedule.

        >>> import jax.numpy as jnp
        >>> from semdlm_jax.kernels import Vocabulary, make_kernel
        >>> kernel = make_kernel("absorbing", Vocabulary(size=5, mask_id=4))
        >>> kernel.prob(jnp.array([0, 4, 1]), jnp.array([0, 0, 0]), 0.25)
        Array([0.75, 0.25, 0.  ], dtype=float32)
    """
    kernel = KERNELS.make(name, **options)
    if not isinstance(vocabulary, Vocabulary):
        raise UserError(f"vocabulary is {shown(vocabulary)}: give a Vocabulary(size=V, mask_id=…)")
    return kernel.build(vocabulary)
