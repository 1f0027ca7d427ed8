"""What training, scoring and sampling ask of an objective, whichever it is."""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.shapes import as_tokens, check_shape

if TYPE_CHECKING:
    from semdlm_jax.objectives.posterior import Posterior


class NoisyBatch(NamedTuple):
    """What a step trains on.

    Attributes:
        x0: clean tokens [B, L] int32.
        xt: what the network reads: noisy tokens, and clean ones where `clean` is true.
        t: times of the noise [B].
        mask: [B, L], 1 or True at the positions that count.
        clean: [B, L] bool, positions that the network is told are clean, which are not predicted; None for none.
    """

    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    mask: jax.Array
    clean: jax.Array | None = None

    def predicted(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(x0, xt, mask), [B, L] each, where clean positions do not count. There x0 and xt are those of the row's first
        noisy position: under some noise no token stays until t = 1, so that a loss of x_t = x_0 need not be finite."""
        if self.clean is None:
            return self.x0, self.xt, self.mask
        first = jnp.argmin(self.clean, axis=1, keepdims=True)
        x0, xt = (jnp.where(self.clean, jnp.take_along_axis(x, first, axis=1), x) for x in (self.x0, self.xt))
        return x0, xt, self.mask * ~self.clean


class SequenceTerms(NamedTuple):
    """Terms of the likelihood bound in nats, and the tokens that count: at every position [B, L], where the mask is, or
    summed over the positions of each sequence, [B] with their number."""

    integral: jax.Array
    prior: jax.Array
    reconstruction: jax.Array
    tokens: jax.Array

    def summed(self) -> "SequenceTerms":
        """Those of sequences, of those of positions."""
        return SequenceTerms(*(jnp.sum(x, axis=1) for x in self))


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

    def lengths(self, mask_BxL: jax.Array) -> dict[str, jax.Array]:
        """What the network is told of rows that end in padding: {} or {"lengths_B": …}."""
        return {"lengths_B": jnp.maximum(jnp.sum(mask_BxL, axis=1), 1)} if self.padded else {}


class ObjectiveBase(abc.ABC):
    """A training loss and the likelihood that belongs to it.

    Attributes:
        exact: it scores the likelihood itself instead of a bound, and writes text from left to right.
        any_kernel: training may go on under another kernel.
        clean_rows: the chance that a row of a training batch has clean positions.
    """

    exact: ClassVar[bool] = False
    clean_rows: float = 0.0

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
    def position_terms(self, denoiser, scoring: Scoring, posterior: "Posterior | None" = None) -> Callable:
        """A pure (params, key, batch, draw) -> SequenceTerms of positions: jit it.

        Args:
            denoiser: the network, with `features` and `logits` as `network.Denoiser` has them.
            scoring: Scoring.
            posterior: instead of the objective's own.

        The batch holds tokens, mask [B, L]; row [B], each row's index among all that are scored; uniform [B, draws],
        where its times lie between t_min and t_max; and, if wanted, given [B, L] bool: then the terms are those of the
        other positions given these. draw: which of these.
        """

    def score_terms(self, denoiser, scoring: Scoring, posterior: "Posterior | None" = None) -> Callable:
        """`position_terms`, summed over the positions of each sequence."""
        terms = self.position_terms(denoiser, scoring, posterior)
        return lambda params, key, batch, draw: terms(params, key, batch, draw).summed()

    def path_log_weights(self, denoiser, scoring: Scoring, path: int | str) -> Callable:
        """A pure (params, key, batch, draw) -> [B] nats, the log weight of a path from noise to each text: jit it. See
        `objectives.paths`. path: a number of steps, or the name of an order. UserError where a text has no such paths.
        """
        raise UserError("this model scores text by the chain rule, exactly: there are no paths of noise to weigh")


def check_tokens(x0_BxL: jax.Array, mask_BxL: jax.Array) -> None:
    """UserError, with both shapes, unless tokens are integers [B, L] and the mask has their shape."""
    as_tokens("x0", x0_BxL)
    check_shape("x0", x0_BxL, (None, None), "[B, L]")
    check_shape("mask", mask_BxL, np.shape(x0_BxL), "[B, L] like x0")
