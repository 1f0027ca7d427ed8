"""The NELBO of a split: one estimator for every kernel and parameterisation, so that the numbers compare.

NELBO = integral of E l_t over [t_min, t_max]  +  KL(q_{t_max} || prior)  +  E -log p_theta(x0 | x_{t_min}).

The integral is estimated with times stratified over each batch; the prior term is exact; the
reconstruction takes one draw of x_{t_min} a sequence, with a network call of its own. An autoregressive model is scored
by its exact likelihood, in the place of the integral.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.kernels import KernelBase
from semdlm_jax.objectives import Autoregressive, Posterior, stratified_times
from semdlm_jax.objectives.bound import at_token, nelbo_rate, prior_divergences
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


def bound_terms(
    denoiser,
    kernel: KernelBase,
    posterior: Posterior,
    prior_V,
    params,
    key,
    x0_BxL,
    mask_BxL,
    *,
    t_min,
    t_max,
    chunk=0,
    padded=False,
):
    """The NELBO's terms of each sequence, from one time and one corruption a sequence. Pure: jit it.

    prior_V: `prior_divergences` at t_max. padded: attention does not see positions where the mask is False.
    """
    hidden = _lengths(mask_BxL) if padded else {}
    time_key, noise_key, last_key = jax.random.split(key, 3)
    t_B = stratified_times(time_key, x0_BxL.shape[0], t_min, t_max)

    def score(function, key, t_B):
        xt_BxL = kernel.corrupt(key, x0_BxL, t_B[:, None])
        features = denoiser.features(params, xt_BxL, t_B, **hidden)

        def positions(features, x0, xt, mask):
            logits = denoiser.logits(params, features)
            log_posterior = posterior.log_probs(kernel, logits, xt, t_B[:, None])
            return jnp.sum(function(log_posterior, x0, xt) * mask, axis=1)

        return map_positions(positions, features, x0_BxL, xt_BxL, mask_BxL, chunk=chunk)

    def integrand(log_posterior, x0, xt):
        return nelbo_rate(kernel, log_posterior, x0, xt, t_B[:, None])

    def reconstruction(log_posterior, x0, xt):
        del xt
        return -at_token(log_posterior, x0)

    return SequenceTerms(
        integral=(t_max - t_min) * score(integrand, noise_key, t_B),
        prior=jnp.sum(prior_V[x0_BxL] * mask_BxL, axis=1),
        reconstruction=score(reconstruction, last_key, jnp.full_like(t_B, t_min)),
        tokens=jnp.sum(mask_BxL, axis=1),
    )


def _lengths(mask_BxL):
    """Where padding begins: at least 1, so that a row of nothing else still has something to attend to."""
    return {"lengths_B": jnp.maximum(jnp.sum(mask_BxL, axis=1), 1)}


def exact_terms(denoiser, objective: Autoregressive, params, x0_BxL, mask_BxL, *, chunk=0):
    """The negative log-likelihood of each sequence by the chain rule, as a `SequenceTerms` without noise. Pure: jit
    it."""
    xt_BxL, t_B = objective.corrupt(None, x0_BxL)
    features = denoiser.features(params, xt_BxL, t_B)

    def positions(features, x0, mask):
        losses = objective.log_losses(denoiser.logits(params, features), x0)
        return jnp.sum(jnp.where(mask, losses, 0), axis=1)

    nothing = jnp.zeros(x0_BxL.shape[0])
    total = map_positions(positions, features, x0_BxL, mask_BxL, chunk=chunk)
    return SequenceTerms(total, nothing, nothing, jnp.sum(mask_BxL, axis=1))


def compile_terms(denoiser, objective, mesh, *, t_min, t_max, chunk, posterior=None, padded=False):
    """A jitted (params, key, tokens [B, L], mask [B, L]) -> SequenceTerms, the result whole on every process.

    posterior: instead of the objective's own. padded: rows may end in padding, where the mask is False: attention does
    not see it (that of an autoregressive model sees nothing behind a token anyway).
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if isinstance(objective, Autoregressive):

        def terms(params, key, tokens, mask):
            del key
            return exact_terms(denoiser, objective, params, tokens, mask, chunk=chunk)

        return jax.jit(terms, out_shardings=whole)

    kernel, posterior = objective.kernel, posterior or objective.posterior
    prior_V = jax.jit(lambda: prior_divergences(kernel, t_max), out_shardings=whole)()

    def terms(params, key, tokens, mask):
        options = {"t_min": t_min, "t_max": t_max, "chunk": chunk, "padded": padded}
        return bound_terms(denoiser, kernel, posterior, prior_V, params, key, tokens, mask, **options)

    return jax.jit(terms, out_shardings=whole)


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
    """Scores batches of {tokens, mask}; `compiled_terms(params, key, tokens, mask)` is what `compile_terms` gives.

    draws: times and corruptions a sequence, averaged before the error is taken over sequences. place: moves a host
    batch to the devices. Batches may be padded with rows whose mask is all False. progress: called with the number of
    draws done.
    """
    collected, under_way, done = [], [], 0

    def wait(behind):
        """Until no more than `behind` draws are under way; tells how many are done."""
        nonlocal done
        while len(under_way) > behind:
            jax.block_until_ready(under_way.pop(0))
            done += 1
            if progress is not None:
                progress(done)

    for index, batch in enumerate(batches):
        batch, batch_key = place(batch), jax.random.fold_in(key, index)
        total = None
        for draw in range(draws):
            terms = compiled_terms(params, jax.random.fold_in(batch_key, draw), batch["tokens"], batch["mask"])
            total = terms if total is None else jax.tree.map(jnp.add, total, terms)
            under_way.append(terms)
            wait(1)  # the next is dispatched while this one runs
        collected.append(jax.tree.map(lambda x: x / draws, total))
    wait(0)
    collected = jax.device_get(collected)
    return summarise(SequenceTerms(*(np.concatenate(parts) for parts in zip(*collected, strict=True))))
