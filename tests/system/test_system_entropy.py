"""The entropy of counts, which every room computes by one function."""

import math

import numpy as np
import pytest

from semdlm_jax.entropy import entropy


@pytest.mark.parametrize(
    ("counts", "nats"),
    [([5], 0), ([2, 2], math.log(2)), ([1, 0, 3], 2 * math.log(2) - 0.75 * math.log(3)), ([], 0), ([0, 0], 0)],
)
def test_entropy(counts, nats):
    got = entropy(np.array(counts, int))
    assert got == pytest.approx(nats, abs=1e-15) and math.copysign(1, got) == 1
