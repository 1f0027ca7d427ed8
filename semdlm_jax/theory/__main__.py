"""Computes what the theory of the SemDLM+ paper says of a kernel, from the data of a run. Nothing is trained.

    python -m semdlm_jax.theory --config=quickstart
    python -m semdlm_jax.theory --config=quickstart --beside=absorbing,uniform --output=theory.html --plots=theory
    python -m semdlm_jax.theory --claims

One token is looked at: its clean value has the frequencies of the training text, and the kernel of the configuration,
your own included, corrupts it. Where a network knows the other tokens, the prior is narrower.

  keep         alpha_t
  d_act        how many logits the posterior of x0 asks for: its support, less 1 (Eq. 16); beside it
               those of probability epsilon or more
  I1, I2       how much an error of the logits costs, and how large its gradients are (Eq. 54 to 56)
  h            the mean entropy of the posterior, in nats; D = Var_t h is the dispersion of the kernel (Figure 3)
  between      of the gradient noise of the best denoiser that does not read t, the share between steps (Eq. 19)
  repair       1 - eta, the share of an error that a step back removes at worst (Eq. 67), between two bounds; for 64
               states or fewer `at most` is exact
  lambda       what all states share of a step (Eq. 72 and 73)
  cluster      a token and its neighbors: how much noise raises its odds for certain (Eq. 111), in fact, and what jumps
               allow at most (Eq. 113), in nats; medians over tokens that have neighbors

Means are over the noisy token x_t. Times are those of a Gauss quadrature, so that means over t are exact to its order.

--claims checks the paper's propositions on a toy: which hold, which fail, and by which numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from semdlm_jax import cli, config_flag
from semdlm_jax.entropy import entropy
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.experiment.build import build_kernel
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.kernels import KERNELS, KernelBase
from semdlm_jax.objectives import AUTOREGRESSIVE
from semdlm_jax.options import counted
from semdlm_jax.report.comparison_page import page_of, text_of
from semdlm_jax.report.plots import check_folder, file_name, write_curves
from semdlm_jax.report.theory_tables import Found, claim_blocks, theory_blocks
from semdlm_jax.runtime.progress import tell
from semdlm_jax.storage import write_text
from semdlm_jax.theory import Steps, as_prior, steps, survey, time_quadrature
from semdlm_jax.theory.claims import claims

ALL_ROWS = 4096  # states of a reverse kernel whose rows, N x N numbers, are all computed
ROWS = 128  # of another one


def names_beside(text: str) -> list[str]:
    """Kernels of a list with commas. UserError: one is unknown."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KERNELS and not KERNELS.is_users(name):
            raise UserError(f"--beside={text}: kernel {name!r} is unknown: {nearest(name, KERNELS)}")
    return names


def examine(kernel: KernelBase, name: str, prior: np.ndarray, clusters: jax.Array, epsilon: float, options) -> Found:
    """Everything about one kernel. prior: [V] counts. clusters: [V, K] neighbors."""
    p, (times, weights) = as_prior(kernel, prior), time_quadrature(options.times)
    found = survey(kernel, p, times, weights, clusters, options.states, epsilon)
    rows = None
    if kernel.num_states > min(options.states, ALL_ROWS):
        rows = found.states.ids[np.unique(np.linspace(0, len(found.states.ids) - 1, ROWS).astype(int))]
    back: Steps | None = None
    missing = ""
    try:
        back = steps(kernel, p, times, 1 / options.steps, rows)
    except UserError as error:  # a chain of a user's own may have rates alone
        missing = f"no steps back: {error}"
    keeps = np.asarray(kernel.alpha(jnp.asarray(times)))
    return Found(name, keeps, found, back, 1 / options.steps, whole=rows is None, missing=missing)


def blocks_of(options):
    """(title, blocks) of the kernels of a configuration. UserError: it has none, or its data are missing."""
    config, names = options.config, names_beside(options.beside)
    if config.objective.name == AUTOREGRESSIVE:
        raise UserError("an autoregressive system has no kernel: give --config a system with one, such as :mdlm")
    corpus = build_run_data(config)
    prior = corpus.vocabulary.require("unigram")
    all_names = list(dict.fromkeys([config.kernel.name, *names]))
    kernels = {name: build_kernel(config, corpus, name) for name in all_names}  # all before any long work
    # A tenth of what a flat posterior gives each token, so that all of its support counts.
    epsilon = options.epsilon or 0.1 / len(prior)
    found = []
    for name, kernel in kernels.items():
        tell(f"{name}: {counted(kernel.num_states, 'state')}, {counted(options.times, 'time')}")
        found.append(examine(kernel, name, prior, jnp.asarray(corpus.table.ids), epsilon, options))
    protocol = (
        f"{counted(len(prior), 'token')}, {int((prior > 0).sum()):,} of them in the text, whose frequencies have an "
        f"entropy of {entropy(prior):.4f} nats; {counted(options.times, 'time')} of a Gauss quadrature; steps of "
        f"1/{options.steps}"
    )
    return f"Theory of {', '.join(all_names)}", theory_blocks(found, protocol, epsilon)


def main(options):
    cli.check_output(options.output)
    if options.plots:
        check_folder(options.plots)
    if options.claims and (options.config is not None or options.plots):
        raise UserError("--claims computes on a toy of its own and draws nothing: leave --config and --plots out")
    with jax.enable_x64(True):
        title, blocks = ("The paper's claims", claim_blocks(claims())) if options.claims else blocks_of(options)
    print(text_of(blocks))
    if options.plots:
        write_curves(options.plots, ((file_name(curve.title), curve) for block in blocks for curve in block.curves))
    if options.output:
        write_text(options.output, page_of(title, blocks))
        print(f"written to {options.output}")


if __name__ == "__main__":
    config_flag.define_config_flag()
    flags.DEFINE_bool("claims", None, "Instead, check the paper's propositions on a toy; needs no --config.")
    flags.DEFINE_string("beside", "", f"Further kernels of the same data, with commas: {', '.join(KERNELS)}.")
    flags.DEFINE_integer("times", 16, "How many times of a quadrature over [0, 1].")
    flags.DEFINE_integer("steps", 128, "Steps of the sampler: a step back is 1 / steps.")
    flags.DEFINE_integer("states", 2048, "How many noisy states are looked at; where there are more, a sample.")
    flags.DEFINE_float("epsilon", None, "The least probability of the effective support. Default: 0.1 / V.")
    flags.DEFINE_string("output", None, "A page, .html, with the tables and the plots.")
    flags.DEFINE_string("plots", None, "A folder for every plot, as .svg, .png and .csv.")
    cli.run(lambda: main(flags.FLAGS), required=[("config", "claims")], needs=("kernel", "warmup", "data", "semantics"))
