"""What dropout needs of its hash: the share of elements, and no dependence between elements, rows or keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.network import Denoiser, layers
from semdlm_jax.network.dropout import dropped, kept, seeds_of

SHAPE = 16, 64, 96


@pytest.fixture(scope="module", params=[0.1, 0.5])
def masks(request):
    """(rate, [8, B, L, D] of eight keys, 0 or 1 less the share that stays)."""
    rate = request.param
    keys = jax.random.split(jax.random.key(7), 8)
    found = jax.vmap(lambda key: kept(seeds_of(key), SHAPE, rate))(keys)
    return rate, np.asarray(found, np.float64) - (1 - rate)


def is_null(products, variance):
    """Whether the mean of so many products of independent terms is 0 within five standard errors."""
    return abs(products.mean()) < 5 * np.sqrt(variance / products.size)


def test_share_of_every_key(masks):
    rate, found = masks
    for one in found:
        assert is_null(one, rate * (1 - rate))


def test_sums_over_positions_and_channels_spread_as_binomial_ones_do(masks):
    rate, found = masks
    for axes in ((1, 2), (2, 3), (1, 3), (1,), (2,), (3,)):
        count = np.prod([found.shape[axis] for axis in axes])
        squares = found.sum(axes).ravel() ** 2 / (count * rate * (1 - rate))
        # The square of a sum of `count` independent terms, over its mean: variance 2 and a part of the terms' kurtosis.
        variance = 2 + ((1 - 6 * rate * (1 - rate)) / (rate * (1 - rate))) / count
        assert abs(squares.mean() - 1) < 5 * np.sqrt(variance / squares.size), axes


def test_elements_do_not_know_of_each_other(masks):
    rate, found = masks
    variance = (rate * (1 - rate)) ** 2
    for axis in (1, 2, 3):
        for step in (1, 2, 8):
            pairs = found * np.roll(found, step, axis)
            # Of a step of half the axis, every pair is there twice.
            once = pairs.take(range(found.shape[axis] // 2), axis) if 2 * step == found.shape[axis] else pairs
            assert is_null(once, variance), (axis, step)
    flat = found.reshape(8, SHAPE[0] * SHAPE[1], SHAPE[2])
    assert all(len(np.unique(mask, axis=0)) == len(mask) for mask in flat)  # no two positions have the same bits
    # Four corners: an element is made of a number of its position and one of its channel.
    rng = np.random.default_rng(0)
    (a, b), (c, d) = rng.permuted(np.arange(1024)).reshape(2, -1), rng.permuted(np.arange(96)).reshape(2, -1)
    corners = flat[:, a][:, :, c] * flat[:, b][:, :, c] * flat[:, a][:, :, d] * flat[:, b][:, :, d]
    assert is_null(corners, variance**2)


def test_keys_do_not_know_of_each_other(masks):
    rate, found = masks
    for step in range(1, 8):
        assert is_null(found[step:] * found[:-step], (rate * (1 - rate)) ** 2), step


def test_what_stays_is_divided_by_its_share():
    x = jax.random.normal(jax.random.key(0), SHAPE)
    seeds = seeds_of(jax.random.key(1))
    mask, rate = kept(seeds, SHAPE, 0.1), 0.1
    np.testing.assert_allclose(dropped(x, seeds, rate), np.where(mask, x / 0.9, 0), rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(dropped(x, seeds, rate)))(x)
    np.testing.assert_allclose(gradient, np.where(mask, 1 / 0.9, 0), rtol=1e-6)


def test_no_rate_below_one_is_too_near_to_it():
    assert np.mean(kept(seeds_of(jax.random.key(2)), SHAPE, 1 - 2**-50)) < 1e-4


def test_bfloat16_rounds_what_stays_and_not_its_share():
    """1 - 0.1 in bfloat16 is 0.8984, by which all would be 0.17 % too large; the rounding of each averages out."""
    y = 1 + jax.random.uniform(jax.random.key(0), SHAPE).astype(jnp.bfloat16)
    seeds = seeds_of(jax.random.key(1))
    found = layers._gated(y, jnp.zeros((SHAPE[0], SHAPE[2])), seeds, 0.1)
    assert found.dtype == jnp.bfloat16
    expected = np.asarray(y, np.float64)[np.asarray(kept(seeds, SHAPE, 0.1))].sum() / 0.9
    np.testing.assert_allclose(np.asarray(found, np.float64).sum(), expected, rtol=2e-4)


def test_every_dropout_of_every_layer_has_seeds_of_its_own(monkeypatch):
    seen = []

    def noted(x, seeds, rate):
        jax.debug.callback(lambda found: seen.append(tuple(found.tolist())), seeds)
        return dropped(x, seeds, rate)

    monkeypatch.setattr(layers, "dropped", noted)
    denoiser = Denoiser(vocab_size=5, width=6, layers=3, heads=1, condition_width=4, dropout=0.5)
    params = denoiser.init(jax.random.key(0))
    for impl in ("threefry2x32", "rbg"):
        for key in jax.random.split(jax.random.key(1, impl=impl), 2):
            denoiser.features(params, jnp.zeros((1, 7), int), jnp.zeros(1), dropout_key=key)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == 4 * 2 * 3  # keys, dropouts of a layer, layers
