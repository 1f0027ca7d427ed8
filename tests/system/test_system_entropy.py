"""The entropy of counts, which every room computes by one function."""

import math

import numpy as np
import pytest

from semdlm_jax.entropy import entropy, smoothed_cross_entropy


@pytest.mark.parametrize(
    ("counts", "nats"),
    [([5], 0), ([2, 2], math.log(2)), ([1, 0, 3], 2 * math.log(2) - 0.75 * math.log(3)), ([], 0), ([0, 0], 0)],
)
def test_entropy(counts, nats):
    got = entropy(np.array(counts, int))
    assert got == pytest.approx(nats, abs=1e-15) and math.copysign(1, got) == 1


def test_the_unigram_model_knows_the_counts_of_train():
    """A token that train lacks has the share of one occurrence."""
    got = smoothed_cross_entropy(np.array([1, 0, 3]), np.array([0, 2, 5]))
    assert got == pytest.approx(-0.25 * math.log(1 / 10) - 0.75 * math.log(6 / 10))
    assert smoothed_cross_entropy(np.zeros(3, int), np.array([0, 2, 5])) == 0
