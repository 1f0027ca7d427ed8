"""Lists of neighbors on the host, as a table stores them, and their inverted index: which rows hold a token.

Ids [V, K], nearest first, MISSING behind the last neighbor of a row. On the device `kernels.NeighborTable` has V in the
place of MISSING; its `from_lists` is the one place where one becomes the other.
"""

from typing import NamedTuple

import numpy as np

MISSING = -1


class InvertedIndex(NamedTuple):
    """The N entries of lists [V, K], by the token that they hold.

    rows, ranks: [N] int32, where an entry stands; those of token j are starts[j] to starts[j + 1], rows rising.
    starts: [V + 1] int64.
    """

    rows: np.ndarray
    ranks: np.ndarray
    starts: np.ndarray

    def nearest(self, k: int) -> "InvertedIndex":
        """The index of the lists cut to their first k entries."""
        kept = self.ranks < k
        before = np.concatenate([[0], np.cumsum(kept)])
        return InvertedIndex(self.rows[kept], self.ranks[kept], before[self.starts])

    def padded(self, row: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, ranks), both [V, D] int32, D the most rows that hold one token; `row` and `rank` where missing."""
        held = np.diff(self.starts)
        there = np.arange(held.max(initial=0)) < held[:, None]
        rows, ranks = np.full(there.shape, row, np.int32), np.full(there.shape, rank, np.int32)
        rows[there], ranks[there] = self.rows, self.ranks
        return rows, ranks


def invert(ids: np.ndarray) -> InvertedIndex:
    """The InvertedIndex of lists ids [V, K]; every negative id is taken for MISSING."""
    rows, ranks = np.nonzero(ids >= 0)
    tokens = ids[rows, ranks]
    order = np.argsort(tokens, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(ids)))])
    return InvertedIndex(rows[order].astype(np.int32), ranks[order].astype(np.int32), starts)
