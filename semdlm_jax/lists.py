"""Neighbor lists read the other way round: which rows hold a token, and at which rank."""

from typing import NamedTuple

import numpy as np


class Transposed(NamedTuple):
    """The N entries of lists [V, K], by the token that they hold.

    rows, ranks: [N] int32, where an entry stands; those of token j are starts[j] to starts[j + 1], rows rising.
    starts: [V + 1] int64.
    """

    rows: np.ndarray
    ranks: np.ndarray
    starts: np.ndarray

    def nearest(self, k):
        """Of the lists cut to their first k entries."""
        kept = self.ranks < k
        before = np.concatenate([[0], np.cumsum(kept)])
        return Transposed(self.rows[kept], self.ranks[kept], before[self.starts])

    def padded(self, row, rank):
        """(rows, ranks), both [V, D] int32, D the most rows that hold one token; `row` and `rank` where missing."""
        held = np.diff(self.starts)
        there = np.arange(held.max(initial=0)) < held[:, None]
        rows, ranks = np.full(there.shape, row, np.int32), np.full(there.shape, rank, np.int32)
        rows[there], ranks[there] = self.rows, self.ranks
        return rows, ranks


def transpose(ids):
    """The Transposed of lists ids [V, K], negative where missing."""
    rows, ranks = np.nonzero(ids >= 0)
    tokens = ids[rows, ranks]
    order = np.argsort(tokens, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(ids)))])
    return Transposed(rows[order].astype(np.int32), ranks[order].astype(np.int32), starts)
