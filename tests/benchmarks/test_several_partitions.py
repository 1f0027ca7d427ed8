"""The study of several partitions: each part of a batch has its own kernel, and what is said of partitions is true."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.several_partitions import Several, Told, corpora_of, main, pairs_in
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.objectives import Stages, make_objective

VOCABULARY = Vocabulary(size=9, mask_id=8)


def stages_of(kernel):
    return Stages((make_objective("denoising", make_kernel(kernel, VOCABULARY)),), (0,))


def test_each_part_of_a_batch_is_noised_and_scored_by_its_own_kernel():
    kernels = [stages_of("absorbing"), stages_of("uniform")]
    several, mask = Several(tuple(kernels)), jnp.ones((8, 64))
    x0 = jax.random.randint(jax.random.key(0), mask.shape, 0, 8)
    batch = several.corrupt(jax.random.key(1), x0, mask, 0)
    changed = np.asarray(batch.xt != x0)
    assert changed[:4].any() and (np.asarray(batch.xt)[:4][changed[:4]] == 8).all()
    assert changed[4:].any() and not (np.asarray(batch.xt)[4:][changed[4:]] == 8).all()
    logits = jax.random.normal(jax.random.key(2), (*mask.shape, 9))
    sums = several.sums(lambda x: x, logits, batch, 0, jax.random.key(3))
    alone = [
        stages.sums(lambda x: x, logits[rows], jax.tree.map(lambda x, rows=rows: x[rows], batch), 0, jax.random.key(4))
        for stages, rows in zip(kernels, (slice(0, 4), slice(4, 8)), strict=True)
    ]
    np.testing.assert_allclose(sums, np.sum(alone, axis=0), rtol=1e-5)  # this loss draws nothing


def test_a_network_is_told_the_partition_by_the_time():
    class Network:
        width = 3

        def features(self, params, tokens, t):
            return t

    told = Told(Network(), lambda rows: jnp.arange(rows) // 2)
    assert told.features(None, jnp.zeros((4, 2)), jnp.full(4, 0.5)).tolist() == [0.5, 0.5, 1.5, 1.5]
    assert told.width == 3


def test_pairs_that_share_a_block():
    one, other = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    assert (pairs_in(one), pairs_in(one * 2 + other)) == (8, 4)  # 3 x 2 + 2 x 1; {0, 1}, {2}, {3, 4}
    assert pairs_in(one * 2 + other) / pairs_in(one) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "given, cause",
    [
        ({"kinds": ["one", "two"]}, "--kinds: two: give some of one, same, several"),
        ({"kinds": []}, "--kinds: none"),
        ({"seeds": ["x"]}, "--seeds=x: give whole numbers"),
        ({"masked": 2}, "--masked=2 leaves none of --steps=2 to train on noise: give fewer"),
        ({"output": "."}, "--output=.*a directory"),
    ],
)
def test_bad_flags_are_refused_before_data_are_read(given, cause):
    options = {"kinds": ["one"], "seeds": ["0"], "output": "results.jsonl", "partitions": 4, "steps": 2, "masked": 1}
    with pytest.raises(UserError, match=cause):
        main(types.SimpleNamespace(**{**options, **given}))


def test_partitions_that_divide_nothing_are_refused_before_data_are_read():
    config = defaults.get_config()
    config.training.batch_size, config.evaluation.draws = 8, 1
    with pytest.raises(UserError, match="4 partitions must divide.*draws = 1: give other numbers"):
        corpora_of(config, "several", 4)
