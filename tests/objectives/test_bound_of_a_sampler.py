"""The bound in steps against the likelihood of the sampler that takes them: two positions, three tokens, four steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.objectives import bound

V, T = 3, 4
VOCABULARY = Vocabulary(V, mask_id=2, partitions=np.array([[0, 0, 1]]), unigram=np.array([5, 3, 0]))
KERNELS = {
    "nested, unigram": {"blocks": "1", "powers": "1.3", "prior": "unigram"},
    "masks on top": {"blocks": "1", "resampled": 1},
    "sequential": {"blocks": "1", "resampled": 0, "path": "sequential", "speeds": "1,1"},
}

STEP = jax.jit(lambda *arguments: bound.nelbo_step(*arguments))


@jax.jit
def _chances(kernel, t, s):
    """(changes back [k, x_t, x_s], q_t [k, x_t])."""
    xt, clean = jnp.arange(kernel.num_states), jnp.arange(V)
    reverse = kernel.reverse(xt, jnp.full(len(xt), t), jnp.full(len(xt), s))
    back = jnp.stack([reverse.true(jnp.full(len(xt), k)) for k in range(V)])
    return back, kernel.prob(xt[None], clean[:, None], t)


@pytest.mark.parametrize("options", KERNELS.values(), ids=KERNELS)
def test_no_text_is_likelier_than_its_bound_allows(float64, options):
    """-log p(x0) of the sampler is at most the bound, for a network that reads both positions."""
    kernel, rng = make_kernel("nested", VOCABULARY, **options), np.random.default_rng(0)
    text = range(V if kernel.mask_id is None else 2)
    states = list(itertools.product(range(kernel.num_states), repeat=2))
    place = {state: index for index, state in enumerate(states)}
    before, bounds = np.eye(len(states)), dict.fromkeys(itertools.product(text, repeat=2), 0.0)
    for t in np.arange(T, 0, -1) / T:
        s = t - 1 / T
        back, forward = (np.asarray(x) for x in _chances(kernel, t, s))
        # The network: any posterior of each position given both, on the tokens that x_t can come from.
        weights = rng.random((len(states), 2, V)) ** 3 * np.isin(np.arange(V), text)
        weights *= np.stack([forward[:, list(state)].T > 0 for state in states])
        network = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
        step = np.zeros((len(states), len(states)))
        for index, state in enumerate(states):
            laws = [network[index, i] @ back[:, state[i]] for i in range(2)]
            step[index] = np.outer(*laws).ravel()
        before = before @ step
        log_posterior, both = np.log(np.maximum(network, 1e-300)), np.array(states)
        for x0 in bounds:
            chances = forward[x0[0], both[:, 0]] * forward[x0[1], both[:, 1]]
            clean = np.broadcast_to(x0, both.shape)
            terms = np.asarray(STEP(kernel, log_posterior, clean, both, t, s))
            bounds[x0] += np.sum(np.where(chances > 0, chances * terms.sum(-1), 0))
    prior = np.outer(*[np.asarray(kernel.prior_probs(1.0))] * 2).ravel()
    likelihoods = {x0: (prior @ before)[place[x0]] for x0 in bounds}
    assert sum(likelihoods.values()) == pytest.approx(1, abs=1e-12)
    gaps = np.array([bounds[x0] + np.log(likelihoods[x0]) for x0 in bounds])
    assert (gaps > -1e-9).all() and gaps.max() > 0.01
