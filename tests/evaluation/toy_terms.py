"""Made-up terms and texts of the likelihood's tests."""

import numpy as np
from toys import P_DATA, V

from semdlm_jax.evaluation.likelihood import SequenceTerms


def one_draw(terms):
    """[B] of each term as summarise takes them: [1, B]."""
    return SequenceTerms(*(np.asarray(x).reshape(1, -1) for x in terms))


def texts(rows, length):
    """(tokens, mask): texts of every length, the last row padding alone."""
    rng = np.random.default_rng(6)
    mask = np.arange(length) < np.append(rng.integers(1, length + 1, rows - 1), 0)[:, None]
    return rng.choice(V, (rows, length), p=P_DATA), mask
