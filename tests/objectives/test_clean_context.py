"""Clean contexts of training rows: which positions they are, and that these carry neither noise nor loss."""

import collections
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_objectives import objective

from semdlm_jax.objectives import NoisyBatch, Stages
from semdlm_jax.objectives.context import clean_positions

pytestmark = pytest.mark.usefixtures("quick_compile")

B = 20_000


def law(layout, n):
    """{pattern of n booleans: its chance}, written out from what the documentation says of a layout."""
    found = collections.Counter()
    if layout == "mixed":
        for part in ("prefix", "spans"):
            for pattern, chance in law(part, n).items():
                found[pattern] += chance / 2
        return found
    if layout == "prefix":
        lengths = range(1, n) if n > 1 else [0]
        return collections.Counter({tuple(i < c for i in range(n)): 1 / len(lengths) for c in lengths})
    for cuts in itertools.product(range(n + 1), repeat=4):
        for first in (False, True):
            pattern = tuple(first ^ (sum(i >= cut for cut in cuts) % 2 == 1) for i in range(n))
            found[(False,) * n if all(pattern) else pattern] += 1 / (2 * (n + 1) ** 4)
    return found


@pytest.mark.parametrize("layout", ["prefix", "spans", "mixed"])
@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [1, 0], [0, 0]], ids=str)
def test_the_law_of_the_clean_positions(layout, mask):
    """Every pattern as often as the documentation says, over the positions that count and no others; a row with a
    context always has something left to predict."""
    counts = np.array(mask, bool)
    drawn = jax.jit(clean_positions, static_argnums=(2, 3))(
        toys.key(0), jnp.broadcast_to(jnp.asarray(mask), (B, len(mask))), 0.6, layout
    )
    drawn = np.asarray(drawn)
    assert not drawn[:, ~counts].any() and (counts.sum() == 0 or not drawn[:, counts].all(axis=1).any())
    wanted = collections.Counter({key: 0.6 * chance for key, chance in law(layout, counts.sum()).items()})
    wanted[(False,) * counts.sum()] += 0.4
    patterns = sorted(wanted)
    index = {pattern: place for place, pattern in enumerate(patterns)}
    found = np.array([index[tuple(row.tolist())] for row in drawn[:, counts]])
    toys.assert_frequencies(found, np.array([wanted[pattern] for pattern in patterns]))


def rows(shape=(64, 7)):
    x0 = jax.random.randint(toys.key(1), shape, 3, toys.V)
    return x0, jnp.arange(shape[1]) < jnp.where(jnp.arange(shape[0]) % 2 == 0, shape[1], 5)[:, None]


def test_only_clean_positions_differ_from_a_batch_without():
    """Times, to the rounding of two programs, and all other noise are those without the key; a batch without has no
    field of them at all."""
    x0, mask = rows()
    plain = objective("denoising", "uniform")
    marked = dataclasses.replace(plain, clean_rows=0.5)
    before, after = (jax.jit(one.corrupt)(jax.random.key(3), x0, mask) for one in (plain, marked))
    assert before.clean is None and len(jax.tree.leaves(before)) == 4
    clean = np.asarray(after.clean)
    assert 0.2 < clean.any(axis=1).mean() < 0.7 and not clean[~np.asarray(mask)].any()
    np.testing.assert_array_equal(after.xt, np.where(clean, x0, before.xt))
    assert (np.asarray(before.xt) != x0)[clean].any()
    np.testing.assert_array_almost_equal_nulp(np.asarray(after.t), np.asarray(before.t), nulp=2)
    for name in ("x0", "mask"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize("name, kernel", [("denoising", "semdlm_plus"), ("d3pm", "absorbing")])
def test_clean_positions_carry_no_loss(name, kernel):
    """The sums are those of a batch whose mask leaves them out; what the network says there has no gradient. At t = 1,
    too, where masked noise keeps no token, so that a token that stayed is impossible."""
    trained = dataclasses.replace(objective(name, kernel), clean_rows=0.5, chunk=3)
    x0, mask = rows((8, 6))
    t = jnp.array([1.0, 1.0, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1])
    clean = (jnp.arange(6) < jnp.array([1, 3, 0, 2, 4, 0, 1, 2])[:, None]) & mask
    noisy = trained.kernel.corrupt(toys.key(2), x0, t[:, None])
    features = jax.random.normal(toys.key(3), (*x0.shape, toys.V))
    batch = NoisyBatch(x0, jnp.where(clean, x0, noisy), t, mask, clean)
    without = NoisyBatch(x0, noisy, t, mask & ~clean, jnp.zeros(x0.shape, bool))

    @jax.jit
    def sums(features, batch):
        return jax.value_and_grad(lambda f: trained.sums(lambda x: x, f, batch, toys.key(4)), has_aux=True)(features)

    ((loss, weight), gradient), ((wanted, wanted_weight), other) = sums(features, batch), sums(features, without)
    np.testing.assert_allclose([loss, weight], [wanted, wanted_weight], rtol=1e-6)
    assert weight > 0 and np.isfinite(gradient).all() and not np.asarray(gradient)[np.asarray(clean)].any()
    np.testing.assert_allclose(gradient, other, rtol=1e-6, atol=1e-30)


def test_stages_with_and_without():
    """A warm-up of another's making may lack them: the step then has one form of a batch."""
    plain = objective("denoising", "uniform")
    stages = Stages((plain, dataclasses.replace(plain, clean_rows=1.0)), (0, 5))
    corrupt = jax.jit(stages.corrupt)
    before, after = (corrupt(jax.random.key(0), *rows(), step) for step in (0, 9))
    assert not before.clean.any() and after.clean.any(axis=1).mean() > 0.8
