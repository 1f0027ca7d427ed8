"""Markov chains so small that everything can be enumerated, as `toy_processes`."""

import dataclasses
from collections.abc import Callable

import numpy as np
from toy_processes import Process
from toy_vocabulary import AT_MASK, FLAT, V


@dataclasses.dataclass(frozen=True)
class Chain(Process):
    """A Markov chain. `forward(t, s)`: [V, V] in row y, column z, the chance or rate of the events that take y to z."""

    def forward(self, t, s=None):
        raise NotImplementedError

    def changed(self, t, s=None):
        return np.einsum("iy,yz->izy", self.matrix(t if s is None else s), self.forward(t, s))


@dataclasses.dataclass(frozen=True)
class TwoDigits(Chain):
    """Each of the two digits of a token is drawn anew at the rate 1 / (1 - t)."""

    columns: int = 4
    exact: bool = True

    def _redrawn(self):
        """[V, V]: what drawing the column, and the row, makes of a token."""
        rows = V // self.columns
        column = np.kron(np.eye(rows), np.full((self.columns, self.columns), 1 / self.columns))
        return column, np.kron(np.full((rows, rows), 1 / rows), np.eye(self.columns))

    def _moved(self, kept):
        column, row = (kept * np.eye(V) + (1 - kept) * drawn for drawn in self._redrawn())
        return column @ row

    def alpha(self, t):
        return (1 - t) ** 2

    def noise(self, t):
        column, row = self._redrawn()
        return t * (1 - t) * (column + row) + t * t * column @ row

    def prior(self, t):
        return FLAT

    def forward(self, t, s=None):
        return sum(self._redrawn()) / (1 - t) if s is None else self._moved((1 - t) / (1 - s))


@dataclasses.dataclass(frozen=True)
class MaskRates(Chain):
    """Token k is a mask with chance t^powers[k]. Those that are masked first have the power `least`."""

    powers: np.ndarray
    least: float

    def _to_mask(self, chances):
        """[V, V]: row k goes to the mask with its chance; a mask stays."""
        return np.where(np.arange(V) == self.mask_id, 0, chances)[:, None] * AT_MASK

    def alpha(self, t):
        return 1 - t**self.least

    def noise(self, t):
        masked = np.where(np.arange(V) == self.mask_id, 0, t**self.powers)
        return self._to_mask(masked) + np.diag(t**self.least - masked)

    def prior(self, t):
        return AT_MASK

    def forward(self, t, s=None):
        if s is None:
            return self._to_mask(self.powers * t ** (self.powers - 1) / (1 - t**self.powers))
        return self._to_mask((t**self.powers - s**self.powers) / (1 - s**self.powers))


@dataclasses.dataclass(frozen=True)
class Nested(Chain):
    """A Markov chain of events, with the chance S_d(t) of none above level d. One of level d draws from nu in a block,
    one of the last level gives the mask if there is one."""

    above: Callable  # t -> [1 - S_0, ..., 1 - S_D]
    blocks: tuple  # [V] each, of the levels that draw
    nu: np.ndarray

    def events(self):
        """[D, V, V]."""
        found = []
        for block in self.blocks:
            block = np.where(np.arange(V) == self.mask_id, -1, block)
            within = (block[:, None] == block) * self.nu
            found.append(within / within.sum(1, keepdims=True))
        return np.stack(found if self.mask_id is None else [*found, np.tile(AT_MASK, (V, 1))])

    def alpha(self, t):
        return 1 - self.above(t)[0]

    def prior(self, t):
        """What becomes of nu, for text without the mask."""
        text = np.where(np.arange(V) == self.mask_id, 0, self.nu)
        return text / text.sum() @ self.noise(t) / (1 - self.alpha(t))

    def noise(self, t):
        return np.einsum("d,dij->ij", -np.diff(self.above(t)), self.events())

    def forward(self, t, s=None):
        if s is None:
            with np.errstate(divide="ignore"):
                falls = [-np.imag(x) / 1e-30 / (1 - np.real(x)) for x in self.above(t + 1e-30j)]
            events = np.diff(falls)
        else:
            left = (1 - np.array(self.above(t))) / (1 - np.array(self.above(s)))
            events = np.diff(left)
        forward = np.einsum("d,dyz->yz", events, self.events())
        if self.mask_id is not None:
            forward[self.mask_id] = 0  # a mask stays
        return forward
