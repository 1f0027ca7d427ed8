"""The NELBO of a split: one estimator for every kernel and parameterization, so that the numbers compare.

NELBO = integral of E l_t over [t_min, t_max]  +  KL(q_{t_max} || prior)  +  E -log p_theta(x0 | x_{t_min}).

The integral is estimated at times that are stratified over all rows and draws (`times.stratified_uniforms`). The prior
term is exact. The reconstruction is estimated from one draw of x_{t_min} for each of these times, with a network call
of its own. The times and the noise of a row depend on the seed, its index, and the numbers of rows and draws: the same
rows give the same numbers, up to rounding, in batches of any size and on any number of devices or processes. An
autoregressive model is scored by its exact likelihood, which stands in the place of the integral.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from semdlm_jax.evaluation.store import Kept
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.objectives import ObjectiveBase, Posterior, Scoring, SequenceTerms


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """The NELBO of a split and how sure it is.

    Attributes:
        nelbo: in nats per token; integral, prior, reconstruction: its three terms.
        standard_error: of the NELBO, in nats per token; None where it cannot be estimated.
        error_over: what the standard error is taken over. 'sequences': how much another text of the same kind could
            differ, the noise of the estimate included. 'draws', where one sequence holds nearly all tokens: the noise
            alone. None: there is a single such sequence and a single draw.
        draw_error: the noise of the estimate for these sequences, as if the times of their draws were independent; None
            with one draw. The times are stratified, so the true noise is mostly smaller.
        tokens, sequences: how many were scored.
    """

    nelbo: float
    standard_error: float | None
    error_over: str | None
    draw_error: float | None
    integral: float
    prior: float
    reconstruction: float
    tokens: int
    sequences: int

    @property
    def perplexity(self) -> float | None:
        """exp(nelbo); None where no float is that large."""
        return math.exp(self.nelbo) if self.nelbo < math.log(sys.float_info.max) else None

    @property
    def perplexity_error(self) -> float | None:
        """Standard error of the perplexity, by the delta method; None without either."""
        if self.perplexity is None or self.standard_error is None:
            return None
        error = self.perplexity * self.standard_error
        return error if math.isfinite(error) else None


# Folded into the key of all noise of evaluations, so that it differs from that of a training with the same seed.
EVALUATION = 0x4E454C42
# With fewer effective sequences, count^2 / sum of squared lengths, their spread does not estimate the error.
LEAST_SEQUENCES = 1.5


def with_error(value: float, error: float | None, digits: int = 4) -> str:
    """'4.2750 ± 0.0344', or '4.2750 ± n/a' where the error is not known."""
    return f"{value:.{digits}f} ± " + ("n/a" if error is None else f"{error:.{digits}f}")


def compile_terms(
    denoiser, objective: ObjectiveBase, mesh: Mesh, scoring: Scoring, posterior: Posterior | None = None
) -> Callable:
    """`objective.score_terms` jitted: (params, key, batch, draw) -> SequenceTerms, the result whole on every
    process. posterior: instead of the objective's own."""
    return compile_whole(objective.score_terms(denoiser, scoring, posterior), mesh)


def compile_whole(function: Callable, mesh: Mesh) -> Callable:
    """A function jitted, for devices of this mesh, its result whole on every process."""

    @functools.wraps(function)
    def on_mesh(*arguments, **named):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments, **named)

    return jax.jit(on_mesh, out_shardings=NamedSharding(mesh, PartitionSpec()))


def summarize(terms: SequenceTerms) -> Likelihood:
    """A `Likelihood` of the terms of all draws and sequences, each [D, N]. Runs on the host.

    The NELBO is a ratio of two sums over sequences, of nats and of tokens. Its variance is the sum of the squared
    residuals of the sequences, each divided by the share of the tokens that lie in other sequences. That is unbiased
    if the noise of a sequence is that of independent tokens, too small if the tokens of a few long sequences share
    their noise, and of no use for a single sequence (`Likelihood.error_over`).
    """
    integral, prior, reconstruction, tokens = (np.asarray(x, np.float64) for x in terms)
    total, tokens = integral + prior + reconstruction, tokens[0]
    draws, count, kept = len(total), tokens.sum(), tokens > 0
    nelbo = total.mean(0).sum() / count
    over_draws, over_sequences = None, error_of_ratio(total.mean(0), tokens)
    if draws > 1:
        over_draws = float(np.sqrt(np.sum(total.var(0, ddof=1)) / draws) / count)
    error = over_draws if over_sequences is None else over_sequences
    over = None if error is None else "draws" if over_sequences is None else "sequences"
    return Likelihood(
        nelbo=float(nelbo),
        standard_error=error,
        error_over=over,
        draw_error=over_draws,
        integral=float(integral.mean(0).sum() / count),
        prior=float(prior.mean(0).sum() / count),
        reconstruction=float(reconstruction.mean(0).sum() / count),
        tokens=int(count),
        sequences=int(kept.sum()),
    )


def error_of_ratio(nats, tokens) -> float | None:
    """The standard error of sum(nats) / sum(tokens) over sequences [N]; None where one holds nearly all tokens. See
    `summarize`."""
    count, kept = tokens.sum(), tokens > 0
    if count**2 < LEAST_SEQUENCES * np.sum(tokens**2):
        return None
    residual = (nats - nats.sum() / count * tokens)[kept]
    return float(np.sqrt(np.sum(residual**2 / (1 - tokens[kept] / count))) / count)


def evaluate_likelihood(
    compiled_terms: Callable, params, batches: Iterable[dict], rows: int, seed: int = 0, **options: Any
) -> Likelihood:
    """The Likelihood of batches of rows. compiled_terms: what `compile_terms` gives; the rest as for `collect`."""
    return summarize(collect(compiled_terms, params, batches, rows, seed, **options))


def collect(
    compiled: Callable,
    params,
    batches: Iterable[dict],
    rows: int,
    seed: int = 0,
    *,
    draws: int = 1,
    place: Callable = lambda x: x,
    progress: Callable | None = None,
    kept: Kept = Kept(None),
) -> Any:
    """What a compiled (params, key, batch, draw) -> pytree of [B, ...] gives for all rows and draws: [D, N, ...].

    Args:
        compiled: the program.
        params: the network's parameters.
        batches: {tokens [B, L], mask [B, L], row [B]}. row: the index of each row among all that are scored. Batches
            may be padded with rows whose mask is all False and whose index is `rows` or more: they are among the N.
        rows: how many are scored in all.
        seed: of times and noise.
        draws: times and corruptions of a sequence.
        place: moves a host batch to the devices.
        progress: called with the number of draws done.
        kept: what an earlier call with the same arguments saved is not done again.
    """
    key, uniforms = jax.random.fold_in(jax.random.key(seed), EVALUATION), stratified_uniforms(seed, rows, draws)
    parts = kept.load()
    loaded, structure, done = len(parts), None, 0
    under_way: list[Any] = []
    pending: list[Any] = []

    def wait(behind):
        """Waits until no more than `behind` draws are under way, and reports progress."""
        nonlocal done
        while len(under_way) > behind:
            jax.block_until_ready(under_way.pop(0))
            done += 1
            if progress is not None:
                progress(done)

    for index, batch in enumerate(batches):
        if index < loaded:  # never the last, which is not saved
            done += draws
            continue
        batch = place({**batch, "uniform": uniforms[np.minimum(batch["row"], rows - 1)]})
        of_batch = []
        for draw in range(draws):
            of_batch.append(compiled(params, key, batch, draw))
            under_way.append(of_batch[-1])
            wait(1)  # the next is dispatched while this one runs
        structure = jax.tree.structure(of_batch[0])
        pending.append(of_batch)
        if len(pending) > 1:
            parts.append(_fetched(pending.pop(0)))
            kept.save(parts)
    wait(0)
    parts += map(_fetched, pending)
    return jax.tree.unflatten(structure, [np.concatenate(leaves, axis=1) for leaves in zip(*parts, strict=True)])


def _fetched(of_batch):
    """The leaves of a batch on the host, draws side by side: [D, B, ...] each."""
    return [np.stack(leaves) for leaves in zip(*map(jax.tree.leaves, jax.device_get(of_batch)), strict=True)]
