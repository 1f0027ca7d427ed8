"""The three-branch family against V x V matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, LOG_ZERO, GlobalPrior, NeighborTable
from semdlm_jax.neighbor_lists import invert

TIMES = (0.0, 0.013, 0.31, 1 / 3, 0.62, 0.97, 1.0)
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)


def times(shape=()):
    return jnp.broadcast_to(jnp.array(TIMES).reshape((-1,) + (1,) * len(shape)), (len(TIMES), *shape))


def matrices(toy):
    return np.stack([toy.matrix(float(t)) for t in times()])


def test_every_named_kernel_has_a_toy():
    assert set(KERNELS) <= set(TOYS)


@every_toy
def test_transition_probabilities(float64, toy):
    kernel = toy.build()
    x0, xt = toys.pairs()
    probs = kernel.prob(xt[None], x0[None], times((1, 1)))
    np.testing.assert_allclose(probs, matrices(toy), rtol=toy.rtol, atol=1e-15)
    np.testing.assert_allclose(probs.sum(-1), 1, atol=toy.rtol)
    assert probs.min() >= 0
    logs = np.asarray(kernel.log_prob(xt[None], x0[None], times((1, 1))))
    np.testing.assert_allclose(logs, toys.log(matrices(toy)), rtol=1e-9, atol=10 * toy.rtol)
    assert (logs[matrices(toy) == 0] == LOG_ZERO).all()


@every_toy
def test_float32_keeps_relative_accuracy(toy):
    t = np.float32([1e-3, 0.4, 0.5, 0.7, 1 - 1e-3, 1 - 1e-5])
    x0, xt = toys.pairs()
    probs = toy.build().prob(xt[None], x0[None], jnp.asarray(t)[:, None, None])
    np.testing.assert_allclose(probs, np.stack([toy.matrix(float(t)) for t in t]), rtol=3e-6 + 10 * toy.rtol)


@every_toy
def test_limits_in_time(float64, toy):
    kernel = toy.build()
    x0, xt = toys.pairs()
    assert toy.starts_clean != ("geometric" in toy.name)
    assert toy.forgets == (toy.name not in toys.REMEMBERING)
    if toy.starts_clean:
        np.testing.assert_array_equal(kernel.prob(xt, x0, jnp.array(0.0)), np.eye(V))
    if toy.forgets:
        at_one = kernel.prob(xt, x0, jnp.array(1.0))
        np.testing.assert_allclose(at_one, np.broadcast_to(toy.prior(1.0), (V, V)), atol=1e-15, rtol=toy.rtol)


@every_toy
def test_a_time_for_every_position(float64, toy):
    t = jnp.array([[0.2], [0.55]])
    x0 = jnp.array([[3, 4, 9], [11, 8, 0]])
    xt = jnp.array([[4, 4, 1], [3, 7, 10]])
    expected = [[toy.matrix(float(t[b, 0]))[x0[b, i], xt[b, i]] for i in range(3)] for b in range(2)]
    np.testing.assert_allclose(toy.build().prob(xt, x0, t), expected, rtol=toy.rtol)


@every_toy
def test_corrupt_draws_from_the_matrix(toy):
    """False alarms: 1e-6 for each of 12 x 3 rows a toy."""
    kernel = toy.build()
    x0 = jnp.tile(jnp.arange(V), (3, 4000, 1))
    t = jnp.array([0.31, 0.62, 0.97])
    drawn = kernel.corrupt(toys.key(1), x0, t[:, None, None])
    assert drawn.dtype == jnp.int32 and drawn.shape == x0.shape
    drawn = np.asarray(drawn)
    for index in range(3):
        q = toy.matrix(float(t[index]))
        for token in range(V):
            toys.assert_frequencies(drawn[index, :, token], q[token])


@every_toy
def test_corrupt_at_the_ends_of_time(toy):
    kernel, key = toy.build(), toys.key(2)
    x0 = jnp.tile(jnp.arange(V), (3, 4000, 1))
    t = jnp.array([0.0, 1.0, 1.0])[:, None, None]
    drawn = np.asarray(kernel.corrupt(key, x0, t))
    if toy.starts_clean:
        np.testing.assert_array_equal(drawn[0], x0[0])
    if toy.forgets:
        toys.assert_frequencies(drawn[1:], toy.prior(1.0))
    toys.assert_frequencies(kernel.sample_prior(key, x0.shape), toy.prior(1.0))


@every_toy
def test_noise_alone(toy):
    """`sample_noise` given that the token was not kept. False alarms: 1e-6 for each of 12 rows a toy."""
    kernel, x0 = toy.build(), jnp.tile(jnp.arange(V), (8000, 1))
    drawn = np.asarray(kernel.sample_noise(toys.key(14), x0, jnp.full((1, 1), 0.4)))
    noise = toy.noise(0.4) / (1 - toy.alpha(0.4))
    for token in range(V):
        toys.assert_frequencies(drawn[:, token], noise[token] / noise[token].sum())


def test_corrupt_positions_are_independent():
    """Whether one position changed says nothing about its neighbor: 4 cells, false alarm 1e-6."""
    x0 = jnp.full((3, 4000, 12), 6)
    t = jnp.full((3, 1, 1), 0.4)
    moved = np.asarray(TOYS["semdlm_plus"].build().corrupt(toys.key(3), x0, t)).reshape(-1, 2) != 6
    p = 1 - TOYS["semdlm_plus"].matrix(float(jnp.float32(0.4)))[6, 6]
    toys.assert_frequencies(2 * moved[:, 0] + moved[:, 1], np.array([(1 - p) ** 2, p * (1 - p), p * (1 - p), p * p]))


@every_toy
def test_sums_over_clean_tokens(float64, toy):
    """For times that positions share, and for times of their own."""
    kernel = toy.build()
    w = np.random.default_rng(4).standard_normal((2, len(TIMES), V))
    m = np.stack([toy.noise(float(t)) for t in times()])
    both = jax.jit(lambda kernel, w, t: (kernel.push_forward(w, t), kernel.noise_matvec(w, t)))
    for arrange, t in ((lambda x: x, times()[None]), (lambda x: np.swapaxes(x, 0, 1), times((1,)))):
        pushed, noise = both(kernel, jnp.asarray(arrange(w)), t)
        exact = {"rtol": toy.rtol, "atol": max(1e-12, toy.rtol)}
        np.testing.assert_allclose(arrange(pushed), np.einsum("btk,tkj->btj", w, matrices(toy)), **exact)
        np.testing.assert_allclose(arrange(noise), np.einsum("btk,tkj->btj", w, m), **exact)
    y = jnp.tile(jnp.array([4, 2, 4, 11]), (2, len(TIMES), 1))
    np.testing.assert_allclose(
        kernel.noise_matvec_at(jnp.asarray(w), y, jnp.tile(times(), (2, 1))),
        np.einsum("btk,tkj->btj", w, m)[..., [4, 2, 4, 11]],
        **exact,
    )


@every_toy
def test_rows_and_columns_of_noise(float64, toy):
    kernel = toy.build()
    tokens = jnp.tile(jnp.arange(V), (len(TIMES), 1))
    m = np.stack([toy.noise(float(t)) for t in times()])
    exact = {"rtol": 10 * toy.rtol, "atol": 1e-14}
    np.testing.assert_allclose(jax.jit(type(kernel).noise_probs)(kernel, tokens, times((1,))), m, **exact)
    columns = jax.jit(type(kernel).noise_likelihoods)(kernel, tokens, times((1,)))
    np.testing.assert_allclose(columns, np.swapaxes(m, 1, 2), **exact)


@every_toy
def test_likelihoods_of_every_clean_token(float64, toy):
    kernel = toy.build()
    xt = jnp.tile(jnp.arange(V), (len(TIMES), 1))
    q = np.swapaxes(matrices(toy), 1, 2)
    np.testing.assert_allclose(kernel.likelihoods(xt, times((V,))), q, rtol=10 * toy.rtol, atol=1e-14)
    logits = np.random.default_rng(5).standard_normal((len(TIMES), V, V))
    # What is impossible may be impossible for two reasons at once.
    columns = np.asarray(kernel.add_log_likelihoods(jnp.asarray(logits), xt, times((V,))))
    columns = np.where(columns < LOG_ZERO / 2, LOG_ZERO, columns)
    expected = np.where(q > 0, logits + toys.log(q), LOG_ZERO)
    np.testing.assert_allclose(columns, expected, rtol=1e-9, atol=max(1e-12, 10 * toy.rtol))
    with np.errstate(divide="ignore"):
        evidence = np.log((np.exp(logits) * q).sum(-1))
    got = np.asarray(kernel.log_evidence(jnp.asarray(logits), xt, times((V,))))
    reached = np.isfinite(evidence)
    np.testing.assert_allclose(got[reached], evidence[reached], rtol=1e-9, atol=max(1e-12, 10 * toy.rtol))
    assert (got[~reached] < LOG_ZERO / 2).all()


TABLES = {name: toy for name, toy in TOYS.items() if isinstance(toy, toys.Toy)}


@pytest.mark.parametrize("toy", TABLES.values(), ids=TABLES)
def test_ranks_and_columns(toy):
    kernel = toy.build()
    x0, xt = toys.pairs()
    ranks = np.asarray(kernel.rank(xt, x0))
    held = kernel.table.k_max
    expected = [
        [-1 if i == j else row.index(j) if j in row else held for j in range(V)] for i, row in enumerate(toy.rows)
    ]
    np.testing.assert_array_equal(ranks, expected)

    # A column lists every row that holds the token, once.
    ids, ranks = (np.asarray(x) for x in kernel.in_neighbors(jnp.arange(V)))
    for token in range(V):
        real = ids[token] < V
        listed = list(zip(ids[token][real], ranks[token][real], strict=True))
        assert sorted(listed) == [(i, row.index(token)) for i, row in enumerate(toy.rows) if token in row]
        assert (ranks[token][~real] == held).all()


def test_table_is_cut_to_k_max():
    ids, similarities = toys.lists(toys.ROWS)
    cut, whole = NeighborTable.from_lists(ids, similarities, 2), toys.table()
    assert cut.k_max == 2 and cut.vocab_size == V
    np.testing.assert_array_equal(cut.ids, whole.ids[:, :2])
    np.testing.assert_array_equal(cut.counts, np.minimum(whole.counts, 2))
    np.testing.assert_array_equal(cut.counts, [min(len(row), 2) for row in toys.ROWS])
    np.testing.assert_array_equal(cut.similarities, np.where(ids >= 0, similarities, 0).astype(np.float32)[:, :2])
    assert (np.asarray(cut.in_ranks) <= 2).all()


@pytest.mark.parametrize("k_max", [7, 3, 0])
@pytest.mark.parametrize("known", [False, True])
def test_table_inverts_large_random_lists(known, k_max):
    """Of the first k_max of each; known: from the index of all."""
    rng, vocab_size = np.random.default_rng(5), 200
    ids = np.full((vocab_size, 7), -1)
    for i in range(vocab_size):
        length = rng.integers(0, 8)
        ids[i, :length] = rng.choice(np.setdiff1d(np.arange(vocab_size // 2), [i]), length, replace=False)
    built = NeighborTable.from_lists(ids, np.zeros(ids.shape), k_max, invert(ids) if known else None)
    ids = ids[:, :k_max]
    forward = {(i, r, ids[i, r]) for i in range(vocab_size) for r in range(k_max) if ids[i, r] >= 0}
    in_ids, in_ranks = np.asarray(built.in_ids), np.asarray(built.in_ranks)
    backward = [
        (i, r, j) for j in range(vocab_size) for i, r in zip(in_ids[j], in_ranks[j], strict=True) if i < vocab_size
    ]
    assert len(backward) == len(forward) and set(backward) == forward
    assert in_ids.shape[1] == np.bincount(ids[ids >= 0]).max(initial=0)
    assert ((in_ids == vocab_size) == (in_ranks == k_max)).all()


def test_another_tables_inverted_lists_are_refused():
    ids = np.array([[1, 2], [0, 2], [0, -1]])
    with pytest.raises(UserError, match="that of other lists"):
        NeighborTable.from_lists(ids, np.ones(ids.shape), inverted=invert(ids[:, :1]))


@pytest.mark.parametrize(
    ("ids", "k_max", "says"),
    [
        ([[1], [0]], 2, "rebuild it with more"),
        ([[1], [2]], None, "below V"),
        ([[-1, 1], [0, -1]], None, "come last"),
        ([[1], [1]], None, "its own neighbor"),
        ([[1, 1], [0, -1]], None, "a token twice"),
    ],
)
def test_malformed_tables_are_refused(ids, k_max, says):
    with pytest.raises(UserError, match=says):
        NeighborTable.from_lists(np.array(ids), np.ones(np.shape(ids)), k_max)


@pytest.mark.parametrize("probs", [toys.SKEWED, toys.GAPPED, toys.AT_MASK, toys.FLAT, np.r_[1e-9, np.ones(98), 1e4]])
def test_alias_tables_are_exact(float64, probs):
    """Column i is drawn with chance 1/V and gives i or its alias: summing those is exact."""
    prior = GlobalPrior.from_probs(probs)
    threshold, alias = np.asarray(prior.threshold), np.asarray(prior.alias)
    implied = np.bincount(alias, 1 - threshold, len(probs)) + threshold
    np.testing.assert_allclose(implied / len(probs), probs / probs.sum(), atol=1e-15)
    np.testing.assert_allclose(prior.probs, probs / probs.sum(), rtol=1e-15)
    assert prior.threshold.min() >= 0 and prior.threshold.max() <= 1


def test_alias_draws():
    probs = np.random.default_rng(6).dirichlet(np.full(300, 0.3))
    toys.assert_frequencies(GlobalPrior.from_probs(probs).sample(toys.key(7), (300, 400)), probs)
