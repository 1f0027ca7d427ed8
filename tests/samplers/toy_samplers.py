"""The loop around networks that know the law of what they are asked: independent positions, each drawn from P_DATA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import toys
from toys import LOG_P_DATA, P_DATA, V

from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Controls, Network, Sampler, make_method, make_plan

LOGITS = jnp.asarray(np.maximum(LOG_P_DATA, -1e30), jnp.float32)
INDEPENDENT = Network(
    lambda tokens, t, lengths: jnp.zeros(tokens.shape), lambda features: jnp.broadcast_to(LOGITS, (*features.shape, V))
)
NOISE_ONLY = ("remdm_cap", "remdm_rescale", "remdm_conf", "remdm_loop")
JUMPS_ONLY = ("sedd_euler", "sedd_analytic")


def suits(method, kernel):
    """Whether the method is for the kernel, by names."""
    if method in NOISE_ONLY:
        return kernel == "absorbing"
    if method in JUMPS_ONLY:
        return kernel in ("absorbing", "uniform", "unigram")
    return method != "gidd_correct" or kernel != "absorbing"


def right_start(toy, shape):
    """Noise at t = 1 of text, for kernels that remember it; None where the prior says the same."""
    if toy.forgets:
        return None
    rng = np.random.default_rng(7)
    chances = toy.matrix(1.0)[rng.choice(V, shape, p=P_DATA)]
    return jnp.asarray((chances.cumsum(-1) < rng.random((*shape, 1))).sum(-1), jnp.int32)


def plan_of(kernel, method, steps, length, strides=1, t_min=1e-3):
    return make_plan(kernel, steps, strides, length, t_min, between=method.between(kernel))


@functools.partial(jax.jit, static_argnames=("method", "posterior", "network", "recorded", "corrector"))
def _sample(
    key, kernel, plan, given, is_given, controls, initial, lengths, *, method, posterior, network, recorded, corrector
):
    sampler = Sampler(method, kernel, posterior, *corrector)
    return sampler.sample(key, network, given, is_given, plan, controls, recorded, initial, lengths)


def sample(
    kernel,
    name,
    shape,
    plan=None,
    *,
    steps=8,
    key=0,
    options=(),
    given=0,
    is_given=False,
    controls=None,
    initial=None,
    lengths=None,
    network=INDEPENDENT,
    parameterization="bayes",
    corrector=(),
    recorded=0,
    strides=1,
):
    """(text, Trajectory) as numpy arrays. name: of a method, or the method."""
    method = make_method(name, **dict(options)) if isinstance(name, str) else name
    kernel = toys.TOYS[kernel].build() if isinstance(kernel, str) else kernel
    plan = plan_of(kernel, method, steps, shape[1], strides) if plan is None else plan
    given = jnp.broadcast_to(jnp.asarray(given, jnp.int32), shape)
    is_given = jnp.broadcast_to(jnp.asarray(is_given, bool), shape)
    lengths = None if lengths is None else jnp.asarray(lengths, jnp.int32)
    out = _sample(
        toys.key(key),
        kernel,
        plan,
        given,
        is_given,
        Controls() if controls is None else controls,
        initial,
        lengths,
        method=method,
        network=network,
        posterior=make_posterior(parameterization),
        corrector=corrector,
        recorded=recorded,
    )
    return jax.tree.map(np.asarray, out)


def assert_independent(text, probs=P_DATA):
    """All tokens, and the pairs of neighbors in the first two positions. False alarm 2e-6."""
    toys.assert_frequencies(text, probs)
    toys.assert_frequencies(V * text[:, 0] + text[:, 1], np.outer(probs, probs).ravel())


def keep_reference(weights, top_k, top_p):
    """(bool [V], how near a share comes to top_p) by sorting, in float64."""
    weights = np.float64(weights)
    kept = np.ones(len(weights), bool)
    if top_k is not None:
        kept = weights >= np.sort(weights)[::-1][min(top_k, len(weights)) - 1]
    if top_p is None:
        return kept, 1.0
    chances = scipy.special.softmax(np.where(kept, weights, -np.inf))
    likeliest = np.sort(chances)[::-1]
    shares = np.cumsum(likeliest)
    least = likeliest[np.argmax(shares >= min(top_p, shares[-1]))]
    return kept & (chances >= least), np.abs(shares - top_p).min()
