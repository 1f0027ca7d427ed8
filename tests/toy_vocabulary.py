"""A dozen tokens: their neighbors, their directions, what jumps give and what texts are made of."""

import jax.numpy as jnp
import numpy as np

from semdlm_jax.kernels import NeighborTable, Vocabulary

V, K, MASK = 12, 4, 2

# Full, short and empty rows; 0, 1, MASK, 10 and 11 are nobody's neighbor, 9 is one without having any.
ROWS = ((), (), (), (4, 5, 6, 7), (3, 5), (4,), (3, 4, 5, 8), (8, 3, 4, 9), (9, 7, 3), (), (9, 8, 7, 3), (3, 4, 5, 6))
ALONE = ((),) * V

FLAT = np.full(V, 1 / V)
AT_MASK = np.eye(V)[MASK]
SKEWED = np.arange(1.0, V + 1) ** 2 / np.sum(np.arange(1.0, V + 1) ** 2)
# The unigram of the toys with half a count more for each.
SMOOTHED = np.arange(1.0, V + 1) ** 2 + 0.5
SMOOTHED = SMOOTHED / SMOOTHED.sum()
# Some tokens are never jumped to: only keeping them, or a neighbor, produces them.
GAPPED = np.where(np.arange(V) % 4 == 0, 0, SKEWED) / np.where(np.arange(V) % 4 == 0, 0, SKEWED).sum()

# What the texts of the toys are made of; the mask is no text.
P_DATA = np.where(np.arange(V) == MASK, 0, np.random.default_rng(3).dirichlet(np.full(V, 0.7)) + 0.01)
P_DATA = P_DATA / P_DATA.sum()
LOG_P_DATA = np.log(np.where(P_DATA > 0, P_DATA, 1e-300))
ENTROPY = -np.sum(P_DATA * LOG_P_DATA)

# Nested blocks of text, fine and coarse; special tokens are one more block.
FINE = np.array([4, 4, 4, 0, 0, 1, 1, 1, 2, 3, 3, 3])
COARSE = np.array([2, 2, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1])

# Directions on a sphere; two tokens have no meaning.
EMBEDDINGS = np.random.default_rng(11).standard_normal((V, 3))
EMBEDDINGS = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True) * (np.arange(V) > 1)[:, None]


def lists(rows, k=K):
    """(ids, similarities) as `NeighborTable.from_lists` takes them."""
    ids = np.array([list(row) + [-1] * (k - len(row)) for row in rows], np.int32).reshape(len(rows), k)
    return ids, np.where(ids >= 0, 0.9 - 0.1 * np.arange(k), 0.0)


def table(rows=ROWS):
    return NeighborTable.from_lists(*lists(rows))


def vocabulary(**changes):
    """Everything a kernel may ask for; the counts make the unigram prior SKEWED."""
    known = {
        "table": table(),
        "unigram": np.arange(1, V + 1) ** 2,
        "embeddings": EMBEDDINGS,
        "partitions": np.stack([FINE, COARSE]),
    }
    return Vocabulary(V, MASK, **{**known, **changes})


def pairs():
    """(x0, xt), each [V, V] int32, x0 down the rows."""
    return jnp.asarray(np.indices((V, V), np.int32))
