"""The NELBO of a split: one estimator for every kernel and parameterisation, so that the numbers compare.

NELBO = integral of E l_t over [t_min, t_max]  +  KL(q_{t_max} || prior)  +  E -log p_theta(x0 | x_{t_min}).

The integral is estimated with times stratified over each batch; the prior term is exact; the
reconstruction takes one draw of x_{t_min} a sequence, with a network call of its own.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.kernels import Kernel
from semdlm_jax.objectives import Posterior, stratified_times
from semdlm_jax.objectives.bound import nelbo_rate, prior_divergence
from semdlm_jax.objectives.chunking import map_positions


class SequenceTerms(NamedTuple):
    """Sums over the counted positions of each sequence, [B] nats, and their number."""

    integral: jax.Array
    prior: jax.Array
    reconstruction: jax.Array
    tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """nelbo: nats a token, with its standard error over sequences; its three terms; tokens and sequences scored."""

    nelbo: float
    standard_error: float
    integral: float
    prior: float
    reconstruction: float
    tokens: int
    sequences: int

    @property
    def perplexity(self):
        return math.exp(self.nelbo)

    @property
    def perplexity_error(self):
        """Standard error of the perplexity, by the delta method."""
        return self.perplexity * self.standard_error


def sequence_terms(
    denoiser, kernel: Kernel, posterior: Posterior, params, key, x0_BxL, mask_BxL, *, t_min, t_max, chunk=0
):
    """The NELBO's terms of each sequence, from one time and one corruption a sequence. Pure: jit it."""
    time_key, noise_key, last_key = jax.random.split(key, 3)
    t_B = stratified_times(time_key, x0_BxL.shape[0], t_min, t_max)

    def score(function, key, t_B):
        xt_BxL = kernel.corrupt(key, x0_BxL, t_B[:, None])
        features = denoiser.features(params, xt_BxL, t_B)

        def positions(features, x0, xt, mask):
            logits = denoiser.logits(params, features)
            log_posterior = posterior.log_probs(kernel, logits, xt, t_B[:, None])
            return jnp.sum(function(log_posterior, x0, xt) * mask, axis=1)

        return map_positions(positions, features, x0_BxL, xt_BxL, mask_BxL, chunk=chunk)

    def integrand(log_posterior, x0, xt):
        return nelbo_rate(kernel, log_posterior, x0, xt, t_B[:, None])

    def reconstruction(log_posterior, x0, xt):
        del xt
        return -jnp.take_along_axis(log_posterior, x0[..., None], axis=-1)[..., 0]

    prior = prior_divergence(kernel, x0_BxL, jnp.full((1, 1), t_max))
    return SequenceTerms(
        integral=(t_max - t_min) * score(integrand, noise_key, t_B),
        prior=jnp.sum(prior * mask_BxL, axis=1),
        reconstruction=score(reconstruction, last_key, jnp.full_like(t_B, t_min)),
        tokens=jnp.sum(mask_BxL, axis=1),
    )


def compile_terms(denoiser, objective, mesh, *, chunk):
    """A jitted (params, key, tokens [B, L], mask [B, L]) -> SequenceTerms, the result whole on every process."""

    def terms(params, key, tokens, mask):
        return sequence_terms(
            denoiser,
            objective.kernel,
            objective.posterior,
            params,
            key,
            tokens,
            mask,
            t_min=objective.t_min,
            t_max=objective.t_max,
            chunk=chunk,
        )

    return jax.jit(terms, out_shardings=NamedSharding(mesh, PartitionSpec()))


def summarise(terms: SequenceTerms):
    """Host: all sequences' terms [N] to a `Likelihood`; the error is that of a ratio of sums over sequences."""
    integral, prior, reconstruction, tokens = (np.asarray(x, np.float64) for x in terms)
    total, count = integral + prior + reconstruction, tokens.sum()
    nelbo = total.sum() / count
    kept = tokens > 0
    return Likelihood(
        nelbo=float(nelbo),
        standard_error=float(np.sqrt(np.sum((total - nelbo * tokens) ** 2)) / count),
        integral=float(integral.sum() / count),
        prior=float(prior.sum() / count),
        reconstruction=float(reconstruction.sum() / count),
        tokens=int(count),
        sequences=int(kept.sum()),
    )


def evaluate_likelihood(compiled_terms, params, batches, key, *, draws=1, place=lambda x: x, progress=None):
    """Scores batches of {tokens, mask}; `compiled_terms(params, key, tokens, mask)` is a jitted `sequence_terms`.

    draws: times and corruptions a sequence, averaged before the error is taken over sequences. place: moves a host
    batch to the devices. Batches may be padded with rows whose mask is all False. progress: called with the number of
    draws done.
    """
    collected = []
    for index, batch in enumerate(batches):
        batch, batch_key = place(batch), jax.random.fold_in(key, index)
        total = None
        for draw in range(draws):
            terms = compiled_terms(params, jax.random.fold_in(batch_key, draw), batch["tokens"], batch["mask"])
            total = terms if total is None else jax.tree.map(jnp.add, total, terms)
            if progress is not None:
                progress(index * draws + draw + 1)
        collected.append(jax.tree.map(lambda x: x / draws, total))
    collected = jax.device_get(collected)
    return summarise(SequenceTerms(*(np.concatenate(parts) for parts in zip(*collected, strict=True))))
