"""The semantic-frequency penalty against dense sums in numpy float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.kernels import NeighborTable
from semdlm_jax.samplers import Penalty, make_controls

V, K, L, B = 23, 3, 13, 4

# Of counts up to 13 with weights up to 0.8 the penalties are at most 5: two numbers of that size, and those they come
# from, are rounded at most eight times, by 2.4e-7 each.
ATOL = 2e-6

pytestmark = pytest.mark.usefixtures("quick_compile")


def neighbors(vocab_size=V, k=K, seed=0):
    """(ids, similarities): rows of 0 to k neighbors, -1 where missing; some of them dissimilar."""
    rng = np.random.default_rng(seed)
    ids = np.stack([(i + 1 + rng.permutation(vocab_size - 1)[:k]) % vocab_size for i in range(vocab_size)])
    ids = np.where(np.arange(k) < rng.integers(0, k + 1, vocab_size)[:, None], ids, -1)
    return ids, np.where(ids >= 0, rng.uniform(-0.5, 1, ids.shape), 0)


def similarity(ids, similarities):
    """S+ [V, V]: S+(k, l) where k is a neighbor of l."""
    dense = np.zeros((len(ids), len(ids)))
    for token, row in enumerate(ids):
        for neighbor, value in zip(row, similarities[token], strict=True):
            if neighbor >= 0:
                dense[neighbor, token] = max(np.float32(value), 0)
    return dense


def inside(position, other, window):
    """A window of W positions, that of the penalized token in the middle; an even W looks one further back."""
    return window is None or position - window // 2 <= other <= position + (window - 1) // 2


def reference(dense, logits, tokens, visible, lambda_freq, lambda_sem, window):
    out = np.float64(logits).copy()
    for row in range(tokens.shape[0]):
        for position in range(tokens.shape[1]):
            n = np.zeros(len(dense))
            for other in range(tokens.shape[1]):
                if other != position and visible[row, other] and inside(position, other, window):
                    n[tokens[row, other]] += 1
            out[row, position] -= lambda_freq * np.log1p(n) + lambda_sem * np.log1p(dense @ n)
    return out


IDS, SIMILARITIES = neighbors()
TABLE = NeighborTable.from_lists(IDS, SIMILARITIES)
DENSE = similarity(IDS, SIMILARITIES)


def texts(seed=1, length=L, few=V):
    """(logits [B, length, V], tokens [B, length]); few: how many different tokens."""
    rng = np.random.default_rng(seed)
    return np.float32(rng.standard_normal((B, length, V))), np.int32(
        rng.permutation(V)[rng.integers(few, size=(B, length))]
    )


begin, apply = jax.jit(Penalty.begin), jax.jit(Penalty.apply)


def penalized(logits, tokens, visible, lambdas, window=None, chunk=None, table=TABLE):
    penalty, chunk = Penalty(table, *lambdas, window), chunk or tokens.shape[1]
    carry, out = begin(penalty, tokens, visible), []
    for start in range(0, tokens.shape[1], chunk):
        now = slice(start, start + chunk)
        carry, part = apply(penalty, carry, logits[:, now], tokens[:, now], start)
        out.append(np.asarray(part))
    return np.concatenate(out, axis=1)


def test_the_toy_has_every_kind_of_row():
    counts = (IDS >= 0).sum(1)
    assert set(counts) == {0, 1, 2, 3} and (SIMILARITIES < 0).any() and (DENSE.sum(1) == 0).any()
    # Rows are not mutual: summing over the wrong one of (k, l) would show.
    assert np.abs(DENSE - DENSE.T).max() > 0.5


@pytest.mark.parametrize("window", [None, 1, 2, 3, 4, 5, L, 2 * L - 1, 100])
def test_any_window_is_the_dense_sum(window):
    """To ATOL, with many repeats and few; the positions from `stop` on do not count, and mean nothing themselves."""
    for seed, few, lambdas in ((1, V, (0.8, 0.6)), (2, 3, (0.8, 0.6)), (3, 6, (0.7, 0.0)), (4, 6, (0.0, 0.7))):
        logits, tokens = texts(seed, few=few)
        for stop in (L, L - 4, 1):
            visible = np.broadcast_to(np.arange(L) < stop, (B, L))
            found = penalized(logits, tokens, visible, lambdas, window)
            expected = reference(DENSE, logits, tokens, visible, *lambdas, window)
            np.testing.assert_allclose(found[:, :stop], expected[:, :stop], atol=ATOL, rtol=0)
            moved = np.abs(expected[:, :stop] - logits[:, :stop]).max()
            assert moved > 0.3 or window == 1 or stop == 1 or (window == 2 and stop == 1)


def test_rows_may_see_different_positions():
    """Those a row hides count for none, wherever they stand."""
    logits, tokens = texts(5, few=5)
    visible = np.random.default_rng(5).random((B, L)) < 0.6
    for window in (None, 5):
        found = penalized(logits, tokens, visible, (0.8, 0.6), window)
        expected = reference(DENSE, logits, tokens, visible, 0.8, 0.6, window)
        np.testing.assert_allclose(found[visible], expected[visible], atol=ATOL, rtol=0)


@pytest.mark.parametrize("window", [None, 1, 4, 24])
def test_chunks_of_positions_are_the_whole(window):
    """What is carried from one to the next is all they share. Bit for bit: the same additions in the same order."""
    logits, tokens = texts(6, length=12, few=5)
    visible = np.broadcast_to(np.arange(12) < 11, (B, 12))
    whole = penalized(logits, tokens, visible, (0.8, 0.6), window)
    for chunk in (1, 3, 4):
        np.testing.assert_array_equal(penalized(logits, tokens, visible, (0.8, 0.6), window, chunk), whole)


@pytest.mark.parametrize("window", [None, 1, 2, 3])
def test_a_single_position_is_never_penalized(window):
    logits, tokens = texts(7, length=1)
    found = penalized(logits, tokens, np.ones((B, 1), bool), (0.8, 0.6), window)
    np.testing.assert_allclose(found, logits, atol=ATOL, rtol=0)


@pytest.mark.parametrize("window", [None, 4])
def test_no_weight_changes_nothing(window):
    logits, tokens = texts(8, few=3)
    np.testing.assert_array_equal(penalized(logits, tokens, tokens >= 0, (0.0, 0.0), window), logits)


def test_a_table_without_neighbors_leaves_the_counts():
    logits, tokens = texts(9, few=5)
    visible = np.ones((B, L), bool)
    for window in (None, 5):
        found = penalized(logits, tokens, visible, (0.8, 0.6), window, table=NeighborTable.empty(V))
        expected = reference(np.zeros((V, V)), logits, tokens, visible, 0.8, 0.6, window)
        np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


def test_a_long_text_does_not_drift():
    """What enters the window and leaves it again is added and subtracted: 4,000 roundings of at most 2.4e-7 each, which
    mostly cancel: 1e-5 are a hundredth of their sum."""
    rng = np.random.default_rng(10)
    length, window, checked = 2000, 9, slice(1900, 2000)
    tokens = np.int32(rng.integers(6, size=(1, length)))
    found = penalized(np.zeros((1, length, V), np.float32), tokens, tokens >= 0, (0.8, 0.6), window)
    near = slice(1900 - window, 2000)
    text, zeros = tokens[:, near], np.zeros((1, 100 + window, V))
    expected = reference(DENSE, zeros, text, text >= 0, 0.8, 0.6, window)[:, window:]
    np.testing.assert_allclose(found[:, checked], expected, atol=1e-5, rtol=0)


def sizes(jaxpr):
    """The number of elements of everything computed, inner programs included."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield variable.aval.size, str(equation)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


@pytest.mark.parametrize("window", [None, 5])
def test_nothing_larger_than_the_logits_is_formed(window):
    """V x V would be 17 times as large, [L, V, K] 3 times; 3 of the K + 1 indices of every position are far below."""
    vocab_size, k, length = 997, 3, 29
    ids = (np.arange(vocab_size)[:, None] + 1 + np.arange(k)) % vocab_size
    table = NeighborTable.from_lists(ids, np.full(ids.shape, 0.5))

    def whole(table, logits, tokens):
        penalty = Penalty(table, 1.0, 1.0, window)
        return penalty.apply(penalty.begin(tokens, tokens >= 0), logits, tokens, 0)

    arguments = (table, jnp.zeros((2, length, vocab_size)), jnp.zeros((2, length), jnp.int32))
    found = list(sizes(jax.make_jaxpr(whole)(*arguments).jaxpr))
    largest, where = max(found)
    assert len(found) > 50 and largest <= 2 * length * vocab_size, where
    if window is not None:
        within = [size for size, equation in found if "scan" not in equation and size < 2 * length * vocab_size]
        assert max(within) <= 2 * vocab_size, "a step of the scan handles one row of logits"


def seen_by_choice(position, window):
    """[L] bool: what the chain rule's draw counts: of the window, what is written."""
    return np.array([other < position and inside(position, other, window) for other in range(L)])


@pytest.mark.parametrize("window", [0, 1, 2, 5, 8, 100])
def test_a_choice_counts_the_tokens_before_it(window):
    """Greedy, so that the choice is the largest of the penalized logits; weights so large that choices change. What
    stands behind is no text yet, whatever it is: ids outside the vocabulary, or in it."""
    controls = make_controls(TABLE, temperature=0, lambda_freq=1.5, lambda_sem=2.5, window=window)
    choose = jax.jit(lambda logits, text, position: controls.choose(jax.random.key(0), logits, text, position))
    logits, tokens = texts(11, few=4)
    changed = 0
    for position in (0, 1, 2, 6, L - 1):
        unwritten = np.where(np.arange(L) < position, tokens, V)
        counts = np.broadcast_to(seen_by_choice(position, window or None), tokens.shape)
        n = np.stack([np.bincount(row[seen], minlength=V) for row, seen in zip(tokens, counts, strict=True)])
        expected = np.float64(logits[:, position]) - 1.5 * np.log1p(n) - 2.5 * np.log1p(n @ DENSE.T)
        highest = np.sort(expected, axis=-1)
        assert (highest[:, -1] - highest[:, -2] > 1e-4).all()
        for text in (unwritten, tokens):
            np.testing.assert_array_equal(choose(logits[:, position], text, position), expected.argmax(-1))
        changed += (expected.argmax(-1) != logits[:, position].argmax(-1)).sum()
    assert changed > 2 or window == 1


def test_lambdas_may_be_traced():
    """A pytree whose only static part is the window."""
    penalty = Penalty(TABLE, jnp.float32(1), jnp.float32(2), 3)
    leaves, tree = jax.tree.flatten(penalty)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert jax.tree.structure(dataclasses.replace(penalty, lambda_sem=jnp.float32(0))) == tree
    assert jax.tree.structure(dataclasses.replace(penalty, window=None)) != tree
