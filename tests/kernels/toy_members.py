"""Nested kernels whose blocks have symbols, beside their generators on all N states."""

import numpy as np
import scipy.integrate

from semdlm_jax.kernels import Vocabulary, make_kernel

# Six tokens; the mask lies in the block of special tokens, as in tables.
V, MASK = 6, 5
FINE, COARSE = np.array([0, 0, 1, 2, 2, 3]), np.array([0, 0, 0, 1, 1, 2])
# Of two classes of frequency, each of half the text: tokens 0 and 2, and of blocks the first one.
COUNTS = np.array([4, 1, 4, 3, 2, 0])
VOCABULARY = Vocabulary(V, MASK, unigram=COUNTS, partitions=np.stack([FINE, COARSE]))


def _direct(*powers, first=1.0):
    """[r_1, ..., r_D] of S_d = 1 - t^p_d, with S_D = 1."""

    def rates(t):
        falls = [p * t ** (p - 1) / (1 - t**p) for p in (first, *powers)]
        return [low - high for low, high in zip(falls, [*falls[1:], 0], strict=True)]

    return rates


class Member:
    """A kernel beside its generator. symbols: the levels from fine to coarse that have symbols; the mask is one more.

    rates(t): of events of each level for `direct`, of each level to the next for `sequential`. of_class: the same of
    the rare tokens, those that are not `frequent`; None: all have one class.
    """

    def __init__(self, rates, symbols, drawing=(), of_class=None, frequent=(), **options):
        self.rates, self.drawing, self.sequential = rates, drawing, options.get("path") == "sequential"
        self.of_class, self.frequent = of_class or rates, frequent
        self.build = lambda: make_kernel("nested", VOCABULARY, resampled=len(drawing), **options)
        self.levels, self.tokens = [0] * V, [{k} for k in range(V)]
        for level, blocks in enumerate(symbols, len(drawing) + 1):
            for block in sorted(set(blocks[:MASK])):
                self.levels.append(level)
                self.tokens.append({k for k in range(MASK) if blocks[k] == block})
        self.top = len(drawing) + len(symbols) + 1
        self.levels[MASK], self.tokens[MASK] = self.top, set(range(V))
        self.N = len(self.levels)

    def generator(self, t):
        """[N, N]: the rate of every state (row) becoming another."""
        q = np.zeros((self.N, self.N))
        for y in range(self.N):
            rates = self.of_class if y < V and y not in self.frequent else self.rates
            for level, rate in enumerate(rates(t), 1):
                if level <= self.levels[y] or (self.sequential and level != self.levels[y] + 1):
                    continue
                if level <= len(self.drawing):
                    inside = np.flatnonzero(self.drawing[level - 1][:MASK] == self.drawing[level - 1][y])
                    q[y, inside] += rate / len(inside)
                else:
                    q[y, self._symbol(y, level)] += rate
        return q - np.diag(q.sum(1))

    def _symbol(self, y, level):
        if level == self.top:
            return MASK
        return next(n for n in range(V, self.N) if self.levels[n] == level and self.tokens[y] <= self.tokens[n])

    def moved(self, s, t):
        """[N, N]: what a state at s is at t, by the differential equation."""
        solved = scipy.integrate.solve_ivp(
            lambda time, p: (p.reshape(self.N, self.N) @ self.generator(time)).ravel(),
            (s, t),
            np.eye(self.N).ravel(),
            rtol=1e-10,
            atol=1e-12,
        )
        return solved.y[:, -1].reshape(self.N, self.N)


def _speeds(*speeds):
    return lambda t: [speed / (1 - t) for speed in speeds]


MEMBERS = {
    "symbols": Member(_direct(2), [FINE], blocks="3"),
    "hdlm": Member(_speeds(1, 1), [FINE], blocks="3", path="sequential", speeds="1,1"),
    "hdlm_gamma": Member(_speeds(2.5, 1), [FINE], blocks="3", path="sequential", speeds="2.5,1"),
    "tdlm": Member(_speeds(3, 2, 1), [FINE, COARSE], blocks="3,2", path="sequential"),
    "symbols_by_frequency": Member(
        _direct(2, first=0.6),
        [FINE],
        of_class=_direct(2, first=1.5),
        frequent=(0, 2),
        blocks="3",
        frequency_powers="0.6,1.5",
    ),
    "tdlm_by_frequency": Member(
        _speeds(1.5, 2, 1),
        [FINE, COARSE],
        of_class=_speeds(6, 2, 1),
        frequent=(0, 2),
        blocks="3,2",
        path="sequential",
        frequency_powers="2,0.5",
    ),
    "drawn_by_frequency": Member(
        _direct(2),
        [],
        drawing=(FINE,),
        of_class=_direct(4),
        frequent=(0, 1),
        blocks="3",
        frequency_powers="1,2",
    ),
    "drawn_then_symbols_by_frequency": Member(
        _direct(1.2, 3),
        [COARSE],
        drawing=(FINE,),
        of_class=_direct(2.4, 3),
        frequent=(0, 1),
        blocks="3,2",
        powers="2,3",
        frequency_powers="0.6,1.2",
    ),
    "drawn_then_symbols": Member(_direct(1.5, 3), [COARSE], drawing=(FINE,), blocks="3,2", powers="1.5,3"),
}
