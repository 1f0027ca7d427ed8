"""Your own network and training loop with a kernel and an objective of the package, and a sample at the end.

The text: rows of tokens that count upwards from a random token, so that the first token tells all others.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from semdlm_jax import Vocabulary, make_kernel
from semdlm_jax.objectives import make_objective

SIZE, LENGTH, ROWS = 12, 8, 64  # tokens 0 to 10 are text, 11 is the mask

kernel = make_kernel("absorbing", Vocabulary(size=SIZE, mask_id=SIZE - 1))
objective = make_objective("nelbo", kernel)
optimizer = optax.adam(3e-3)


class Network(nn.Module):
    """Any function of noisy tokens [B, L] and times [B] that returns logits [B, L, V]."""

    @nn.compact
    def __call__(self, tokens, t):
        row = nn.Embed(SIZE, 32)(tokens).reshape(len(tokens), -1)
        hidden = nn.gelu(nn.Dense(128)(jnp.concatenate([row, t[:, None]], axis=1)))
        return nn.Dense(LENGTH * SIZE)(hidden).reshape(*tokens.shape, SIZE)


network = Network()


@jax.jit
def train_step(params, moments, key):
    text_key, noise_key, loss_key = jax.random.split(key, 3)
    x0 = (jax.random.randint(text_key, (ROWS, 1), 0, SIZE - 1) + jnp.arange(LENGTH)) % (SIZE - 1)
    batch = objective.corrupt(noise_key, x0, jnp.ones(x0.shape, bool))  # False marks positions that do not count

    def mean_loss(params):
        logits = network.apply(params, batch.xt, batch.t)
        total, weight = objective.sums(lambda logits: logits, logits, batch, loss_key)
        return total / weight

    loss, gradient = jax.value_and_grad(mean_loss)(params)
    updates, moments = optimizer.update(gradient, moments)
    return optax.apply_updates(params, updates), moments, loss


@jax.jit
def sample_step(params, key, xt, t, s):
    draft_key, step_key = jax.random.split(key)
    logits = network.apply(params, xt, jnp.full(len(xt), t))
    draft = jax.random.categorical(draft_key, objective.posterior.log_weights(kernel, logits, xt, t))
    return kernel.reverse_step(step_key, xt, draft, t, s)


def train(steps, seed=0):
    params = network.init(jax.random.key(seed), jnp.zeros((1, LENGTH), int), jnp.zeros(1))
    moments, losses = optimizer.init(params), []
    for key in jax.random.split(jax.random.key(seed + 1), steps):
        params, moments, loss = train_step(params, moments, key)
        losses.append(loss)
    return params, losses


def sample(params, steps=16, seed=0):
    prior_key, *keys = jax.random.split(jax.random.key(seed), steps + 1)
    xt = kernel.sample_prior(prior_key, (4, LENGTH))
    for step, key in zip(range(steps, 0, -1), keys, strict=True):
        xt = sample_step(params, key, xt, step / steps, (step - 1) / steps)
    return xt


if __name__ == "__main__":
    params, losses = train(1000)
    print(f"{sum(losses[-100:]) / 100:.3f} nats per token; the text has {jnp.log(SIZE - 1) / LENGTH:.3f}")
    print(sample(params))
