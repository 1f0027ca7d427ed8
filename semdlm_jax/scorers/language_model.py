"""Scoring by a language model that predicts each token from those before it.

Shape suffixes: B rows, L positions, D width, V vocabulary.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.objectives.chunking import map_positions
from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.scorers.base import Scored, Scorer, check_texts
from semdlm_jax.scorers.windows import cut, map_windows

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


@dataclasses.dataclass(frozen=True)
class ModelScorer(Scorer):
    """A scorer by a LanguageModel."""

    context: int | None = field(
        number(None, "[2, 1048576]", "tokens of a window; None: what the model reads, at most 1024", kind=int)
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
        program = functools.partial(model.program, model.params)
        for window, one, features in map_windows(program, windows, self.window, self.batch_tokens, "score"):
            nll[window.text] += one
            sums[window.text] += features
            tokens[window.text] += window.counted.sum()
            read[window.text] += window.read.sum()
        if not np.isfinite(nll).all() or not np.isfinite(sums).all():
            raise UserError(f"{self.name} gives no finite score: its weights are damaged: download them again")
        return Scored(nll, tokens, (sums / np.maximum(read, 1)[:, None]).astype(np.float32))
