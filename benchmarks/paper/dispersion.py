"""Figure 3: the dispersion of kernels against the variance of gradients, within and between times (Eq. 19)."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.stats import spearmanr

from benchmarks.bakeoff import Entry, configure, markdown
from benchmarks.paper import plots
from benchmarks.paper.cells import Cell, TrainedRun
from benchmarks.paper.likelihoods import kernel_of
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax.experiment.build import build_kernel
from semdlm_jax.experiment.data import build_run_data, train_iterator
from semdlm_jax.objectives import NoisyBatch, Objective
from semdlm_jax.runtime.mesh import place_local
from semdlm_jax.theory.enumeration import as_prior
from semdlm_jax.theory.quantities import survey, time_quadrature

NAME, TITLE = "figure3", "Figure 3: dispersion and gradient variance"
SECONDS = 60.0
TIMES = 16  # of the quadrature over [0, 1]


def entries(scale: Scale) -> list[Entry]:
    """All kernels of the other tables that are trained with one loss, and other neighborhoods."""
    plain = ("mdlm", "gidd", "udlm", "hdlm", "semdlm_knn", "semdlm_nested", "semdlm_nested_mask")
    plus = [f"kernel.gamma={gamma:g}" for gamma in scale.gammas if gamma != 1] + ["kernel.k_max=4"]
    found = [tuned(system, scale) for system in plain]
    return [*found, tuned("semdlm_plus", scale), *(tuned("semdlm_plus", scale, change) for change in plus)]


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    kernels = dict.fromkeys(map(kernel_of, entries(scale)))
    wanted = [Cell(NAME, _dispersion(of), None, None, functools.partial(disperse, of), SECONDS) for of in kernels]
    for seed in seeds:
        for entry in entries(scale):
            measure = functools.partial(gradients, scale)
            wanted.append(Cell(NAME, f"{entry.text}, seed {seed}", entry, seed, measure, SECONDS))
    return wanted


def _dispersion(kernel):
    return f"{kernel.text}, dispersion"


def disperse(entry: Entry) -> dict:
    """D(Q) of a kernel for the frequencies of its training text (`semdlm_jax.theory`); nothing is trained."""
    config = configure(entry, 2, 0)
    corpus = build_run_data(config)
    with jax.enable_x64(True):
        kernel = build_kernel(config, corpus, config.kernel.name)
        prior = as_prior(kernel, corpus.vocabulary.require("unigram"))
        found = survey(kernel, prior, *time_quadrature(TIMES), jnp.asarray(corpus.table.ids))
        return {"dispersion": found.dispersion}


def gradients(scale: Scale, run: TrainedRun) -> dict:
    """Traces of the covariance of a batch's gradient, after training: within a time, and between times.

    The rows of a batch all have one time, so that Eq. 19 is taken as it is written; training stratifies times over the
    rows, which removes most of the second part. Both are without bias: the variance of the means over B batches has
    1 / B of the variance within taken away.
    """
    trained = run.trained
    denoiser, objective = trained.denoiser, trained.objective
    assert isinstance(objective, Objective)  # of the systems above, none is autoregressive
    shares = (np.arange(scale.gradient_times) + 0.5) / scale.gradient_times
    times = objective.t_min + (objective.t_max - objective.t_min) * shares

    @jax.jit
    def gradient(params, tokens, mask, t, key):
        noise_key, loss_key = jax.random.split(key)
        t_B = objective.loss.times(jnp.full(len(tokens), t))
        xt = objective.kernel.corrupt(noise_key, tokens, t_B[:, None])

        def loss(params):
            batch = NoisyBatch(tokens, xt, t_B, mask)
            features = denoiser.features(params, xt, t_B)
            total, weight = objective.sums(lambda f: denoiser.logits(params, f), features, batch, loss_key)
            return total / weight

        grads = jax.grad(loss)(params)
        return ravel_pytree(grads)[0]

    iterator, count = train_iterator(trained.config, trained.corpus), scale.gradient_batches
    squares, means = [], []
    for place, t in enumerate(times):
        square, mean = 0.0, jnp.zeros(())
        for index in range(count):
            batch = place_local(next(iterator), trained.config.training.batch_size, trained.mesh)
            key = jax.random.fold_in(jax.random.key(1), place * count + index)
            found = gradient(trained.params, batch["tokens"], batch["mask"], t, key)
            square, mean = square + float(jnp.vdot(found, found)) / count, mean + found / count
        squares.append(square)
        means.append(np.asarray(mean, np.float64))
    return split_variance(np.array(squares), np.array(means), count)


def split_variance(squares_T: np.ndarray, means_TxP: np.ndarray, count: int) -> dict[str, float]:
    """Eq. 19 from `count` gradients at each of T times: traces of covariances, without bias.

    Args:
        squares_T: the mean squared norm of a gradient at each time.
        means_TxP: the mean gradient at each time.
        count: of gradients at each time, 2 at least.

    Returns:
        within: the mean over times of the variance at a time. between: the variance of the expectation over times, with
        T - 1; what the variance of means over `count` gradients adds is taken away, so it may be below 0. mean: the
        squared norm of the mean of all.
    """
    within = float(np.mean(squares_T - np.sum(means_TxP**2, axis=1)) * count / (count - 1))
    between = float(np.sum(np.var(means_TxP, axis=0, ddof=1)) - within / count)
    return {"within": within, "between": between, "mean": float(np.sum(means_TxP.mean(0) ** 2))}


def lines_of(entry: Entry, seeds: list[int], lines: dict[str, dict]) -> list[dict]:
    """The lines of an entry's gradients."""
    return [lines[key] for seed in seeds if (key := f"{entry.text}, seed {seed}") in lines]


PARTS = ("within", "between", "mean")


def found_of(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> dict[str, tuple[float, list[dict]]]:
    """{system: (D, its lines)} of the systems that have both."""
    found = {}
    for entry in entries(scale):
        of, alone = lines_of(entry, seeds, lines), lines.get(_dispersion(kernel_of(entry)))
        if of and alone:
            found[entry.name] = alone["dispersion"], of
    return found


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """A row for each kernel, and how far the paper's correlation is there."""
    found = found_of(scale, seeds, lines)
    rows = [
        (name, str(len(of)), f"{dispersion:.3g}", *(_over_seeds([line[part] for line in of]) for part in PARTS))
        for name, (dispersion, of) in found.items()
    ]
    told = (
        "D: variance over t of the entropy of x_0 given one x_t, for the token frequencies of the training text. "
        f"Gradients: after training, {scale.gradient_times} times, {scale.gradient_batches} batches at each, all rows "
        "of a batch at one time; traces of covariances; means over seeds [least, largest]."
    )
    text = f"{told}\n\n{markdown(rows, ('system', 'seeds', 'D', 'within', 'between', 'mean squared'))}"
    if len(found) < 3:
        return text
    of_seeds = [seed for seed in seeds if len(found_of(scale, [seed], lines)) == len(found)]
    within, between, both = (
        [correlations(found_of(scale, chosen, lines))[index] for chosen in (seeds, *([seed] for seed in of_seeds))]
        for index in range(3)
    )
    return (
        f"{text}\n\nRank correlation of D over the {len(found)} systems, of means over seeds (of single seeds): "
        f"{_signed(within)} with the variance within times, {_signed(between)} with that between, {_signed(both)} with "
        "their sum over the squared mean."
    )


def correlations(found: dict[str, tuple[float, list[dict]]]) -> list[float]:
    """Spearman's, of D with the variance within times, that between, and their sum over the squared mean."""
    D = [dispersion for dispersion, _ in found.values()]
    parts = [[np.mean([line[part] for line in of]) for _, of in found.values()] for part in PARTS]
    within, between, mean = np.array(parts)
    return [float(spearmanr(D, part).statistic) for part in (within, between, (within + between) / mean)]


def _over_seeds(values):
    mean = f"{np.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.3g}, {max(values):.3g}]"


def _signed(ranks):
    mean, *of_seeds = (f"{rank:+.2f}" for rank in ranks)
    return f"{mean} ({', '.join(of_seeds)})" if of_seeds else mean


def draw(scale: Scale, seeds: list[int], lines: dict[str, dict], folder: pathlib.Path) -> list[str]:
    """Variances within and between against D, a point a system."""
    points = {
        name: (dispersion, *(float(np.mean([line[part] for line in of])) for part in PARTS[:2]))
        for name, (dispersion, of) in found_of(scale, seeds, lines).items()
    }
    points = {name: values for name, values in points.items() if min(values[1:]) > 0}  # the axes are logarithmic
    if not points:
        return []
    axes = ("variance within times", "variance between times")
    return [plots.scatter(folder / "figure3.png", points, "dispersion D", axes)]
