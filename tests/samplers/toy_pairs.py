"""Two positions that depend on each other: a joint law, its exact denoiser, and the exact law of a sampler's text.

All of it in numpy float64 from the toys' matrices, with nothing of the samplers but the network's form.
"""

import jax.numpy as jnp
import numpy as np
from toys import V

from semdlm_jax.samplers import Network

TEXT = (1, 4, 5, 9)
RNG = np.random.default_rng(5)
JOINT = np.zeros((V, V))
JOINT[np.ix_(TEXT, TEXT)] = RNG.dirichlet(np.full(16, 0.5)).reshape(4, 4)


def network(kernel, joint=JOINT):
    """f_i(k) = log p(x0^i = k | the other noisy token), exact: `bayes` makes it p(x0^i | both)."""
    of_first = jnp.asarray(joint, jnp.float32)

    def features(tokens_Bx2, t, lengths):
        del lengths
        k_V = jnp.arange(V)
        chances = kernel.prob(tokens_Bx2[..., None], k_V, t[:, None, None])
        return jnp.stack([chances[:, 1] @ of_first.T, chances[:, 0] @ of_first], axis=1)

    def logits(features):
        return jnp.log(jnp.maximum(features, 1e-30))

    return Network(features, logits)


def denoiser(toy, t, joint=JOINT):
    """p(x0^1 | x), p(x0^2 | x): both [V, V, V] by (x^1, x^2, k); zero where x cannot occur."""
    q = toy.matrix(t)
    weight = np.einsum("kl,kx,ly->xykl", joint, q, q)
    total = weight.sum((2, 3), keepdims=True)
    posterior = np.where(total > 0, weight / np.where(total > 0, total, 1), 0)
    return posterior.sum(3), posterior.sum(2)


def pushed(law, posteriors, step):
    """[V, V]: the law after a step that draws each k from its posterior and moves each position by step [k, x, y],
    independently given x."""
    first, second = posteriors
    to_first = np.einsum("xyk,kxa->xya", first, step)
    to_second = np.einsum("xyk,kyb->xyb", second, step)
    return np.einsum("xy,xya,xyb->ab", law, to_first, to_second)


STEPS = {"ancestral": lambda toy, t, s: toy.reverse(t, s), "tau_leaping": lambda toy, t, s: toy.leap(t, s)}


def prior(toy):
    return np.outer(toy.prior(1.0), toy.prior(1.0))


def laws(toy, name, plan, joint=JOINT):
    """[V, V] after every step of a plan with one stride, exactly; the last is that of the text."""
    now = prior(toy)
    for t, s in zip(np.float64(plan.t), np.float64(plan.s), strict=True):
        step = STEPS[name](toy, t, s) if s > 0 else np.broadcast_to(np.eye(V)[:, None], (V, V, V))
        now = pushed(now, denoiser(toy, t, joint), step)
        yield now


def variation(p, q):
    return np.abs(p - q).sum() / 2
