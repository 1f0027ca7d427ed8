"""Likelihoods by paths against the law of the sampler, enumerated in numpy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import MASK, TOYS, V, key, mixed_prior

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import Autoregressive, Scoring, make_objective

T_MIN, T_MAX, STEPS = 0.05, 0.95, 4
TEXTS = np.array([[0, 1], [3, 3], [4, 0], [5, 9]])
PATHS = 4096


class Pairs:
    """A network that reads both positions of a row: logits of a table by a token and its neighbor."""

    def __init__(self, states, seed=0):
        self.states = states
        self.table = np.random.default_rng(seed).normal(0, 0.7, (states, states, V))

    def features(self, params, xt, t, lengths_B=None):
        return jnp.stack([xt, xt[:, ::-1]], axis=-1)

    def logits(self, params, features):
        return jnp.asarray(self.table)[features[..., 0], features[..., 1]]

    def posterior(self, toy, t):
        """[N, N, V] by x_t and its neighbor: proportional to e^logits q_t(x_t | k), for every clean token k."""
        weights = np.exp(self.table) * toy.matrix(t)[:V].T[:, None, :]
        if toy.mask_id is not None:
            weights[..., toy.mask_id] = 0
        return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


def likelihoods(toy, network):
    """[V, V]: p(x0) of the sampler at STEPS times, by its transition matrix over pairs."""
    times = np.linspace(T_MAX, T_MIN, STEPS)
    law = np.multiply.outer(*[mixed_prior(toy, T_MAX)] * 2)
    for t, s in itertools.pairwise(times):
        back = np.einsum("ank,kay->any", network.posterior(toy, t), toy.reverse(t, s))  # [x_t, its neighbor, x_s]
        law = np.einsum("ab,aby,baz->yz", law, back, back)
    last = network.posterior(toy, times[-1])
    return np.einsum("ab,aby,baz->yz", law, last, last)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "nested", "semdlm_plus"])
def test_the_mean_weight_is_the_likelihood_of_the_sampler(name, float64):
    toy = TOYS[name]
    network, objective = Pairs(len(toy.matrix(0.5))), make_objective("nelbo", toy.build())
    weights = jax.jit(objective.path_log_weights(network, Scoring(T_MIN, T_MAX), STEPS))
    tokens = jnp.asarray(np.repeat(TEXTS, PATHS, axis=0), jnp.int32)
    batch = {"tokens": tokens, "mask": jnp.ones(tokens.shape, bool), "row": jnp.arange(len(tokens))}
    found = np.exp(np.asarray(weights(None, key(0), batch, 0))).reshape(len(TEXTS), PATHS)
    law = likelihoods(toy, network)
    right = law[tuple(TEXTS.T)]
    assert np.isclose(law.sum(), 1)
    error = found.std(1, ddof=1) / PATHS**0.5
    assert np.all(error < 0.1 * right), "too few paths to tell"
    assert np.all(np.abs(found.mean(1) - right) < 5 * error), (found.mean(1), right, error)


class Triples:
    """Logits of a table by all three positions of a row."""

    def __init__(self, seed=0):
        self.table = np.random.default_rng(seed).normal(0, 1.5, (V,) * 3 + (3, V))

    def features(self, params, xt, t, lengths_B=None):
        place = jnp.broadcast_to(jnp.arange(3), xt.shape)
        return jnp.concatenate([jnp.broadcast_to(xt[:, None], (*xt.shape, 3)), place[..., None]], axis=-1)

    def logits(self, params, features):
        return jnp.asarray(self.table)[tuple(jnp.moveaxis(features, -1, 0))]

    def probs(self, state):
        """[3, V], the mask excluded."""
        weights = np.exp(self.table[tuple(state)]) * (np.arange(V) != MASK)
        return weights / weights.sum(-1, keepdims=True)


def by_hand(network, text, order):
    """The likelihood of a text whose tokens are revealed in an order, of positions or 'confidence'."""
    state, total, left = [MASK] * 3, 1.0, [0, 1, 2]
    for turn in range(3):
        probs = network.probs(state)
        place = max(left, key=lambda i: probs[i].max()) if order == "confidence" else order[turn]
        total *= probs[place, text[place]]
        state[place] = text[place]
        left.remove(place)
    return total


@pytest.fixture(scope="module")
def triples():
    texts = np.array(list(itertools.product([k for k in range(V) if k != MASK], repeat=3)))
    batch = {"tokens": jnp.asarray(texts), "mask": jnp.ones(texts.shape, bool), "row": jnp.arange(len(texts))}
    return Triples(), texts, batch


@pytest.mark.parametrize("order", ["left_to_right", "confidence"])
def test_a_rule_gives_the_likelihood_itself(order, triples, float64):
    network, texts, batch = triples
    objective = make_objective("nelbo", TOYS["absorbing"].build())
    found = np.exp(jax.jit(objective.path_log_weights(network, Scoring(1e-3, 1.0), order))(None, key(0), batch, 0))
    right = [by_hand(network, text, order if order == "confidence" else (0, 1, 2)) for text in texts]
    np.testing.assert_allclose(found, right, rtol=1e-9)
    assert found.sum() == pytest.approx(1, abs=1e-9)


def test_random_orders_are_equally_likely(triples, float64):
    network, texts, _ = triples
    objective = make_objective("nelbo", TOYS["absorbing"].build())
    tokens = jnp.asarray(np.repeat(texts[:1], PATHS, axis=0))
    batch = {"tokens": tokens, "mask": jnp.ones(tokens.shape, bool), "row": jnp.arange(PATHS)}
    log_weights = jax.jit(objective.path_log_weights(network, Scoring(1e-3, 1.0), "random"))
    noise = jax.random.key(0)
    found = log_weights(None, noise, batch, 0)
    # The order of a row depends on its index alone, wherever it stands in a batch.
    np.testing.assert_array_equal(log_weights(None, noise, batch | {"row": batch["row"][::-1]}, 0), found[::-1])
    values = np.array([by_hand(network, texts[0], order) for order in itertools.permutations(range(3))])
    assert len(np.unique(values.round(12))) > 4
    weights = np.exp(found)
    assert np.isclose(weights[:, None], values).any(1).all()
    assert abs(weights.mean() - values.mean()) < 5 * weights.std() / PATHS**0.5


def test_padding_has_no_part_in_it(triples, float64):
    """Two tokens of a row that ends in padding: as a row of which only they count."""
    network, texts, batch = triples
    objective = make_objective("nelbo", TOYS["absorbing"].build())
    short = {**batch, "mask": jnp.broadcast_to(jnp.arange(3) < 2, texts.shape)}
    weights = objective.path_log_weights(network, Scoring(1e-3, 1.0, padded=True), "left_to_right")
    found = np.exp(jax.jit(weights)(None, key(0), short, 0)).reshape(V - 1, V - 1, V - 1)
    np.testing.assert_allclose(found.sum((0, 1)), 1, rtol=1e-9)  # a law of two tokens, whatever stands behind them


def test_paths_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="noise is masks alone"):
        make_objective("nelbo", TOYS["uniform"].build()).path_log_weights(None, Scoring(1e-3, 1.0), "random")
    with pytest.raises(UserError, match="unknown order 'best'"):
        make_objective("nelbo", TOYS["absorbing"].build()).path_log_weights(None, Scoring(1e-3, 1.0), "best")
    with pytest.raises(UserError, match="exactly"):
        Autoregressive(0).path_log_weights(None, Scoring(1e-3, 1.0), 8)
