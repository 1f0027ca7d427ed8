"""Texts that are measured side by side: what a model wrote, real text, and controls."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from semdlm_jax.evaluation import quality, repetition
from semdlm_jax.kernels import NeighborTable

# Columns: what the model wrote, real text, and texts without any model.
GENERATED, HELDOUT = "generated", "heldout"
SHUFFLED, UNIGRAM, PERIODIC = "shuffled", "unigram", "periodic"
REFERENCE = "reference"  # held-out text that no column holds, which columns are compared with
CONTROLS = (SHUFFLED, UNIGRAM, PERIODIC)
COPY_TOKENS = 20_000_000  # of train, from its start, in which copies are looked for: 2 s a million on a CPU core
BIGRAM_TOKENS = 5_000_000  # of train, from its start, whose word bigrams are collected: more would not fit in memory


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is measured.

    Attributes:
        rows: {column: …}, each a sequence of token rows without padding: GENERATED, HELDOUT, and controls.
        texts: the same rows, decoded.
        reference: held-out texts that no column holds.
        table: the neighbors of the run.
        train: the tokens of the training text.
        decode: makes text of tokens.
        seed: of all randomness.
        score: gives the scorer's `Scored` of texts; None without a scorer.
        embed: gives features [N, D] of texts; None: the scorer's own.
    """

    rows: Mapping[str, Sequence[np.ndarray]]
    texts: Mapping[str, Sequence[str]]
    reference: Sequence[str]
    table: NeighborTable
    train: np.ndarray
    decode: Callable[[np.ndarray], str]
    seed: int = 0
    score: Callable[[Sequence[str]], Any] | None = None
    embed: Callable[[Sequence[str]], np.ndarray] | None = None

    def only(self, *columns: str) -> "Samples":
        """These columns alone."""
        rows, texts = ({column: of[column] for column in columns} for of in (self.rows, self.texts))
        return dataclasses.replace(self, rows=rows, texts=texts)

    @property
    def compared(self) -> int:
        """Rows of the shortest column: what depends on the number of texts is taken of so many of each."""
        return min(map(len, self.rows.values()))

    @functools.cached_property
    def train_bigrams(self) -> set[tuple[str, str]]:
        """Word bigrams of the first BIGRAM_TOKENS tokens of the training text."""
        return set(quality.word_bigrams(self.decode(self.train[:BIGRAM_TOKENS])))

    @functools.cached_property
    def copies(self) -> dict[str, list[np.ndarray]]:
        """{column: how far the first COPY_TOKENS tokens of train are copied from every place of its rows}, see
        `repetition.copied`."""
        flat = repetition.copied([row for rows in self.rows.values() for row in rows], [self.train[:COPY_TOKENS]])
        ends = np.cumsum([len(rows) for rows in self.rows.values()])
        return {name: flat[end - len(rows) : end] for (name, rows), end in zip(self.rows.items(), ends, strict=True)}

    @functools.cached_property
    def scored(self) -> dict[str, Any]:
        """{column: Scored} of the scorer; of REFERENCE, too."""
        assert self.score is not None  # see `measure.NEEDS`
        return {column: self.score(texts) for column, texts in self._all_texts.items()}

    @functools.cached_property
    def features(self) -> dict[str, np.ndarray]:
        """{column: [N, D]}; of REFERENCE, too."""
        if self.embed is None:
            return {column: scored.features for column, scored in self.scored.items()}
        return {column: self.embed(texts) for column, texts in self._all_texts.items()}

    @property
    def _all_texts(self):
        return {**self.texts, **({REFERENCE: self.reference} if self.reference else {})}
