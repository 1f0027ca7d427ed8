"""Scoring by a language model that predicts each token from those before it: windows, batches of equal length, and the
compiled program.

Shape suffixes: B rows, L positions, D width, V vocabulary.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import whole_rows
from semdlm_jax.objectives.chunking import map_positions
from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.runtime.mesh import make_mesh, place_batch
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.scorers.base import Scored, Scorer, check_texts

SHORTEST = 16  # positions of the shortest rows: shorter texts are padded to it
HEAD_POSITIONS = 512  # positions whose logits are alive at once: 100 MB of them for 50,000 tokens


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A causal network with its tokenizer.

    Attributes:
        name: of it and of the file it was read from.
        encode: texts -> ids of each, without anything before or behind them.
        params: of the network, on the devices.
        features: (params, tokens [B, L]) -> [B, L, D], the last hidden states behind the final norm. A state depends
            on the tokens up to its own.
        losses: (params, features [..., D], next tokens [...]) -> [...] nats, -log p of these tokens.
        prefix: ids that stand before each window and are not scored.
        context: the most tokens that a window may have, the prefix included.
        window: tokens of a window where no other number is asked for, the prefix included.
        width: D.
        end_id: of the end of a text, of which a window counts the first alone; None where texts hold none.
        shown_prefix: the prefix, in words.
    """

    name: str
    encode: Callable[[Sequence[str]], Sequence[np.ndarray]]
    params: Any
    features: Callable[[Any, jax.Array], jax.Array]
    losses: Callable[[Any, jax.Array, jax.Array], jax.Array]
    prefix: tuple[int, ...]
    context: int
    window: int
    width: int
    end_id: int | None
    shown_prefix: str

    @functools.cached_property
    def program(self) -> Callable:
        """(params, {tokens, counted, read: [B, L]}) -> (nll [B], sum of features [B, D]), compiled for each shape."""
        everywhere = NamedSharding(make_mesh(-1, 1, 1), PartitionSpec())
        return jax.jit(self._sums, out_shardings=everywhere)

    def _sums(self, params, rows):
        tokens_BxL = rows["tokens"]
        features_BxLxD = self.features(params, tokens_BxL)

        def positions(features, following, counted):
            return jnp.sum(jnp.where(counted, self.losses(params, features, following), 0), axis=1)

        # Position l predicts token l + 1; `counted` marks what is predicted.
        following, counted = (jnp.roll(rows[name], -1, axis=1) for name in ("tokens", "counted"))
        chunk = max(1, HEAD_POSITIONS // tokens_BxL.shape[0])
        nll_B = map_positions(positions, features_BxLxD, following, counted, chunk=chunk)
        return nll_B, jnp.einsum("bld,bl->bd", features_BxLxD, rows["read"].astype(features_BxLxD.dtype))


class Window(NamedTuple):
    """A part of a text as the network reads it. text: its number. tokens: [n] with the prefix. counted: [n] bool, the
    tokens that are scored. read: [n] bool, those of the text."""

    text: int
    tokens: np.ndarray
    counted: np.ndarray
    read: np.ndarray


def cut(texts: Sequence[np.ndarray], prefix: tuple[int, ...], context: int, end_id: int | None) -> list[Window]:
    """The windows of texts that are given as ids. Each is scored by itself: its first token is not predicted, and of
    end tokens only the first counts, as in the code of MDLM."""
    windows, room = [], context - len(prefix)
    for index, ids in enumerate(texts):
        for start in range(0, len(ids), room):
            tokens = np.concatenate([np.array(prefix, np.int32), ids[start : start + room]]).astype(np.int32)
            read = np.arange(len(tokens)) >= len(prefix)
            ends = tokens == end_id if end_id is not None else np.zeros(len(tokens), bool)
            counted = read & (~ends | (np.cumsum(ends) == 1))
            counted[0] = False
            windows.append(Window(index, tokens, counted, read))
    return windows


def batches(windows: Sequence[Window], context: int, batch_tokens: int, mesh: Any) -> Iterator[list[Window]]:
    """Windows of like length together, the longest first, each list as long as its batch; what lacks in the last one
    of a length is windows without tokens."""
    for length in sorted({padded(len(window.tokens), context) for window in windows}, reverse=True):
        alike = [window for window in windows if padded(len(window.tokens), context) == length]
        most = max(1, min(batch_tokens // length, padded(len(alike), len(alike), shortest=1)))
        rows = whole_rows(most, mesh)
        for start in range(0, len(alike), rows):
            batch = alike[start : start + rows]
            yield batch + [NOTHING] * (rows - len(batch))


NOTHING = Window(-1, *(np.zeros(0, kind) for kind in (np.int32, bool, bool)))


def padded(length: int, most: int, shortest: int = SHORTEST) -> int:
    """The least power of two that holds `length`, at least `shortest`; `most`, which holds every length, below it."""
    return min(max(shortest, 1 << (length - 1).bit_length()), most)


@dataclasses.dataclass(frozen=True)
class ModelScorer(Scorer):
    """A scorer by a LanguageModel."""

    context: int | None = field(
        number(
            None,
            "[2, 1048576]",
            "tokens of a window; None: what the model reads, of others' models at most 1024",
            kind=int,
        )
    )
    batch_tokens: int = field(number(8192, "[1, 1073741824]", "tokens scored at once: a matter of speed and memory"))

    @abc.abstractmethod
    def read(self) -> LanguageModel:
        """The model, from its files. UserError: something of it is missing, or not read here."""

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The model, read once."""
        return self.read()

    def prepare(self) -> None:
        _ = self.window

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def window(self) -> int:
        """Tokens of a window, with the prefix. UserError: more than the model reads, or none but the prefix."""
        model, least = self.model, len(self.model.prefix) + 1
        if self.context is None:
            return model.window
        if not least <= self.context <= model.context:
            raise UserError(
                f"scorer {self.spec!r}: context = {self.context} is not possible with this model: give {least} to "
                f"{model.context}"
            )
        return self.context

    @property
    def protocol(self) -> str:
        model = self.model
        room, first = self.window - len(model.prefix), "the first token of a window is not scored"
        if model.prefix:
            first = f"{model.shown_prefix} stands before each window, as what it is scored from"
        ends = "" if model.end_id is None else "of the tokens that end a text, a window counts the first alone; "
        return (
            f"text retokenized by the scorer's own tokenizer and cut every {room} tokens into windows, each scored "
            f"by itself; {first}; {ends}corpus perplexity is exp(sum of NLL / sum of scored tokens); float32"
        )

    def score(self, texts: Sequence[str]) -> Scored:
        check_texts(texts)
        model = self.model
        windows = cut(model.encode(list(texts)), model.prefix, self.window, model.end_id)
        nll, sums = np.zeros(len(texts)), np.zeros((len(texts), model.width))
        tokens, read = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
        for window in windows:
            tokens[window.text] += window.counted.sum()
            read[window.text] += window.read.sum()
        total, done, mesh = sum(len(window.tokens) for window in windows), 0, make_mesh(-1, 1, 1)
        with Progress(total, label="score") as progress:
            for batch in batches(windows, self.window, self.batch_tokens, mesh):
                found = zip(batch, *self._run(batch, mesh))
                for window, one, features in found:
                    if window is not NOTHING:
                        nll[window.text] += one
                        sums[window.text] += features
                done += sum(len(window.tokens) for window in batch)
                progress.update(done)
        if not np.isfinite(nll).all() or not np.isfinite(sums).all():
            raise UserError(f"{self.name} gives no finite score: its weights are damaged: download them again")
        return Scored(nll, tokens, (sums / np.maximum(read, 1)[:, None]).astype(np.float32))

    def _run(self, batch, mesh):
        """(nll [B], sums of features [B, D]) of a batch's windows, in float64."""
        length = padded(max(len(window.tokens) for window in batch), self.window)
        rows = {name: np.zeros((len(batch), length), kind) for name, kind in ROWS.items()}
        for row, window in enumerate(batch):
            for name in ROWS:
                rows[name][row, : len(window.tokens)] = getattr(window, name)
        # Else the products of some devices have fewer digits than float32.
        with jax.default_matmul_precision("float32"):
            found = self.model.program(self.model.params, place_batch(rows, mesh))
        return [np.asarray(array, np.float64) for array in found]


ROWS = {"tokens": np.int32, "counted": bool, "read": bool}
