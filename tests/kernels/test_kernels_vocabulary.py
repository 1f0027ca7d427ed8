"""What kernels know of tokens: what is refused."""

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import SCHEDULES, Vocabulary, make_kernel
from semdlm_jax.kernels.mask_rates import MaskRates


@pytest.mark.parametrize("powers", [[1.0, 0.0, 1.0], [1.0, np.nan, 1.0]])
def test_powers_of_masks_are_above_zero(powers):
    with pytest.raises(UserError, match="above 0"):
        MaskRates.build(np.array(powers), SCHEDULES["linear"](), 2)


def partitioned(levels):
    return Vocabulary(4, 3, partitions=np.array(levels))


def test_partitions_that_nest_are_taken():
    for levels in ([[0, 1, 1, 2], [0, 0, 0, 1]], [[3, 2, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]):
        np.testing.assert_array_equal(partitioned(levels).require("partitions"), levels)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Vocabulary("100", 99), "size = '100' is not a whole number"),
        (lambda: Vocabulary(100, 100), r"mask_id = 100 is not possible: give a whole number in \[0, 100\)"),
        (lambda: Vocabulary(100, -1), "mask_id = -1"),
        (lambda: partitioned([[0, 0, 1]]), "partitions are of 3 tokens but the vocabulary has 4"),
        (lambda: partitioned([0, 0, 1, 1]), r"int64 of shape \[4\]: give whole numbers \[levels, 4\]"),
        (lambda: partitioned([[0.0, 0, 1, 1]]), r"float64 of shape \[1, 4\]: give whole numbers"),
        (lambda: partitioned(np.zeros((0, 4), int)), "one row a level at least"),
        (lambda: partitioned([[0, 0, 2, 2]]), "level 0 of the partitions has 2 blocks from 0 to 2: number them 0 to 1"),
        (lambda: partitioned([[0, 1, 2, 3], [-1, 0, 0, 0]]), "level 1 of the partitions has 2 blocks from -1 to 0"),
        (
            lambda: partitioned([[0, 1, 1, 2], [0, 0, 1, 1]]),
            "a block of level 0 lies in more than one block of level 1",
        ),
        (lambda: Vocabulary(4, 3).require("partitions"), "give semantics.blocks that the vocabulary can fill and run"),
        (lambda: make_kernel("uniform", 100), "vocabulary is 100: give a Vocabulary"),
        (lambda: make_kernel("semdlm_plus", Vocabulary(100, 99)), r"or give Vocabulary\(table=…\) in Python"),
        (lambda: make_kernel("unigram", Vocabulary(100, 99)), r"or give Vocabulary\(unigram=…\) in Python"),
    ],
)
def test_what_is_no_vocabulary(make, words):
    with pytest.raises(UserError, match=words):
        make()
