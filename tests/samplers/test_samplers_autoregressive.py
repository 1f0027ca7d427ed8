"""The chain rule's sampler: on a network whose joint distribution is known, and through the real network's cache."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys

from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.samplers.autoregressive import sample_autoregressive

pytestmark = pytest.mark.usefixtures("quick_compile")

# The toy: three tokens and the start, whose logit is the highest of all; a row of logits for every past, whose code is
# its tokens as digits, first the start.
V, START, L = 3, 3, 3
LOGITS = np.float32(np.random.default_rng(0).standard_normal((64, V + 1)) + 5 * (np.arange(V + 1) == START))


def toy_step(token_B, position, code_B):
    del position
    code_B = 4 * code_B + token_B
    return code_B[:, None], code_B


def categorical(key, logits_BxV, text_BxL, position):
    del text_BxL, position
    return jax.random.categorical(key, logits_BxV)


@functools.partial(jax.jit, static_argnames="choose")
def sample_toy(key, given_BxL, is_given_BxL, choose=categorical):
    def readout(code_Bx1):
        return jnp.asarray(LOGITS)[code_Bx1[:, 0]]

    empty = jnp.zeros(len(given_BxL), jnp.int32)
    return sample_autoregressive(key, toy_step, readout, empty, START, given_BxL, is_given_BxL, choose)


def joint(given, is_given):
    """[27] chances of every text, the first token the leading digit: the product of the conditionals, those of given
    tokens aside."""
    chances = []
    for text in itertools.product(range(V), repeat=L):
        code, chance = START, 1.0
        for token, fixed, place in zip(text, given, is_given, strict=True):
            chance *= float(token == fixed) if place else scipy.special.softmax(np.float64(LOGITS[code, :V]))[token]
            code = 4 * code + token
        chances.append(chance)
    return np.array(chances)


@pytest.mark.parametrize("places", [(), (0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)], ids=str)
def test_frequencies_are_those_of_the_chain_rule(places):
    """False alarm 1e-6 each. Given tokens stand wherever they were put and condition what follows."""
    given, is_given = np.array([1, 2, 0]), np.isin(np.arange(L), places)
    text = sample_toy(toys.key(0), *(jnp.tile(jnp.asarray(x), (20_000, 1)) for x in (given, is_given)))
    assert text.shape == (20_000, L) and text.dtype == jnp.int32
    np.testing.assert_array_equal(text[:, is_given], np.tile(given[is_given], (20_000, 1)))
    toys.assert_frequencies(np.asarray(text) @ [9, 3, 1], joint(given, is_given))


def test_every_row_has_its_own_given_tokens():
    rng = np.random.default_rng(1)
    given, is_given = rng.integers(V, size=(200, L)), rng.random((200, L)) < 0.5
    text = np.asarray(sample_toy(toys.key(1), jnp.asarray(given), jnp.asarray(is_given)))
    np.testing.assert_array_equal(text[is_given], given[is_given])
    assert (text < V).all() and (text[~is_given] != given[~is_given]).any()


def test_a_choice_sees_the_tokens_before_it_and_none_after():
    def weighed(text, before, xp):
        return xp.sum(xp.where(before, 7 * text + 1, 100 * (text != START)), axis=-1) % V

    def choose(key, logits_BxV, text_BxL, position):
        del key, logits_BxV
        return weighed(text_BxL, jnp.arange(L) < position, jnp)

    given, is_given = np.array([[0, 2, 1], [2, 1, 2]]), np.array([[False, True, False], [True, False, False]])
    expected = np.full((2, L), START)
    for position in range(L):
        chosen = weighed(expected, np.arange(L) < position, np)
        expected[:, position] = np.where(is_given[:, position], given[:, position], chosen)
    text = sample_toy(toys.key(2), jnp.asarray(given), jnp.asarray(is_given), choose=choose)
    np.testing.assert_array_equal(text, expected)


# The real network, its start token the last of the vocabulary.
TINY = Denoiser(vocab_size=20, width=16, layers=2, heads=2, condition_width=8, causal=True)
OBJECTIVE = Autoregressive(start_id=19)
ROWS, LENGTH = 4, 10
TRACES = []


@functools.cache
def params():
    """No zeros: at initialization every text would be as likely."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(TINY.init, jax.random.key(0)))
    draw = np.random.default_rng(6)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * draw.standard_normal(x.shape), x.dtype) for x in leaves])


@jax.jit
def greedy(params, key, given_BxL, is_given_BxL):
    TRACES.append(given_BxL.shape)
    return sample_autoregressive(
        key,
        functools.partial(TINY.step, params),
        functools.partial(TINY.logits, params),
        TINY.init_cache(*given_BxL.shape),
        OBJECTIVE.start_id,
        given_BxL,
        is_given_BxL,
        lambda key, logits_BxV, text_BxL, position: jnp.argmax(logits_BxV, axis=-1),
    )


def prompted(prompt):
    """Device arrays (given, is given) [ROWS, LENGTH] of a prompt."""
    given = np.zeros((ROWS, LENGTH), np.int32)
    given[:, : len(prompt)] = prompt
    return jnp.asarray(given), jnp.asarray(np.broadcast_to(np.arange(LENGTH) < len(prompt), given.shape))


def test_greedy_text_is_that_of_the_whole_pass_at_every_position():
    """The whole pass reads what training reads: the tokens one place later."""
    rng = np.random.default_rng(4)
    given, is_given = rng.integers(19, size=(ROWS, LENGTH)), rng.random((ROWS, LENGTH)) < 0.3
    is_given[0] = False
    whole = jax.jit(lambda params, text: TINY.apply(params, OBJECTIVE.shifted(text), jnp.zeros(ROWS)))
    expected = np.where(is_given, given, 0)
    for position in range(LENGTH):
        logits = np.asarray(whole(params(), jnp.asarray(expected)))[:, position]
        chosen = np.where(np.arange(20) == OBJECTIVE.start_id, -np.inf, logits).argmax(-1)
        expected[:, position] = np.where(is_given[:, position], given[:, position], chosen)
    text = greedy(params(), jax.random.key(0), jnp.asarray(given, jnp.int32), jnp.asarray(is_given))
    np.testing.assert_array_equal(text, expected)
    assert len(np.unique(expected[~is_given])) > 6, "a network that repeats itself would hide errors"


def test_one_compilation_and_no_transfer_for_every_prompt():
    arguments = [(params(), jax.random.key(seed), *prompted(range(seed))) for seed in (0, 1, 4, LENGTH - 1, LENGTH)]
    greedy(*arguments[0])
    traces = len(TRACES)
    with jax.transfer_guard("disallow"):
        texts = [greedy(*each) for each in arguments]
    assert len(TRACES) == traces
    for text, (*_, given, is_given) in zip(texts, arguments, strict=True):
        np.testing.assert_array_equal(np.asarray(text)[is_given], np.asarray(given)[is_given])
    assert "callback" not in greedy.lower(*arguments[0]).as_text()
