"""How much gradients of single batches differ, relative to their mean."""

import math

import jax
import jax.numpy as jnp

from semdlm_jax.runtime.mesh import place_local
from semdlm_jax.train import Run

NOISE_BATCHES = 16


def gradient_noise(run: Run) -> float:
    """trace(covariance) / |mean|^2 of the gradient of one batch at the run's parameters, from NOISE_BATCHES batches."""
    objective, denoiser = run.objective, run.denoiser

    @jax.jit
    def gradient(params, tokens, mask, key):
        noise_key, loss_key = jax.random.split(key)
        batch = objective.corrupt(noise_key, tokens, mask)

        def loss(params):
            features = denoiser.features(params, batch.xt, batch.t)
            total, weight = objective.sums(lambda f: denoiser.logits(params, f), features, batch, loss_key)
            return total / weight

        return jax.grad(loss)(params)

    mean, squares = None, 0.0
    for index in range(NOISE_BATCHES):
        batch = place_local(next(run.iterator), run.config.training.batch_size, run.mesh)
        grads = gradient(run.state.params, batch["tokens"], batch["mask"], jax.random.fold_in(jax.random.key(1), index))
        squares += float(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads))) / NOISE_BATCHES
        mean = grads if mean is None else jax.tree.map(jnp.add, mean, grads)
    of_mean = float(sum(jnp.sum(jnp.square(g / NOISE_BATCHES)) for g in jax.tree.leaves(mean)))
    spread = (squares - of_mean) * NOISE_BATCHES / (NOISE_BATCHES - 1)
    # |mean of n|^2 is larger than |expectation|^2 by spread / n. If nothing is left without it, there was only noise.
    signal = of_mean - spread / NOISE_BATCHES
    return spread / signal if signal > 0 else math.inf
