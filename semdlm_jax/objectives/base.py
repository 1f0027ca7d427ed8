"""What training, scoring and sampling ask of an objective, whichever it is."""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import numpy as np

from semdlm_jax.kernels.shapes import as_tokens, check_shape

if TYPE_CHECKING:
    from semdlm_jax.objectives.posterior import Posterior


class NoisyBatch(NamedTuple):
    """What a step trains on. x0, xt: clean and noisy tokens [B, L] int32. t: times [B]. mask: [B, L], 1 or True at the
    positions that count."""

    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    mask: jax.Array


class SequenceTerms(NamedTuple):
    """Terms of the likelihood bound: sums over the counted positions of each sequence, [B] nats, and their number."""

    integral: jax.Array
    prior: jax.Array
    reconstruction: jax.Array
    tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How text is scored.

    Attributes:
        t_min, t_max: the range of times of the bound's integral.
        chunk: positions of logits alive at a time; 0: all.
        padded: rows may end in padding, where their mask is False, which attention does not see.
    """

    t_min: float
    t_max: float
    chunk: int = 0
    padded: bool = False


class ObjectiveBase(abc.ABC):
    """A training loss and the likelihood that belongs to it.

    Attributes:
        exact: it scores the likelihood itself instead of a bound, and writes text from left to right.
        any_kernel: training may go on under another kernel.
    """

    exact: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def any_kernel(self) -> bool: ...

    @abc.abstractmethod
    def check_times(self) -> None:
        """UserError when the loss would never meet times that it cannot do without."""

    @abc.abstractmethod
    def corrupt(self, key: jax.Array, x0_BxL: jax.Array, mask_BxL: jax.Array) -> NoisyBatch:
        """What the network reads in a training step."""

    @abc.abstractmethod
    def sums(self, readout: Callable, features_BxLxD: jax.Array, batch: NoisyBatch, key) -> tuple[jax.Array, jax.Array]:
        """(sum of losses, sum of weights) over the positions that the mask marks. readout: [..., D] -> logits."""

    @abc.abstractmethod
    def score_terms(self, denoiser, scoring: Scoring, posterior: "Posterior | None" = None) -> Callable:
        """A pure (params, key, batch, draw) -> SequenceTerms: jit it.

        Args:
            denoiser: the network, with `features` and `logits` as `network.Denoiser` has them.
            scoring: Scoring.
            posterior: instead of the objective's own.

        The batch holds tokens, mask [B, L]; row [B], each row's index among all that are scored; uniform [B, draws],
        where its times lie between t_min and t_max. draw: which of these.
        """


def check_tokens(x0_BxL: jax.Array, mask_BxL: jax.Array) -> None:
    """UserError, with both shapes, unless tokens are integers [B, L] and the mask has their shape."""
    as_tokens("x0", x0_BxL)
    check_shape("x0", x0_BxL, (None, None), "[B, L]")
    check_shape("mask", mask_BxL, np.shape(x0_BxL), "[B, L] like x0")
