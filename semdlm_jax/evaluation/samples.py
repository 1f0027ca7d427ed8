"""Texts that are measured side by side: what a model wrote, real text, and controls."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from semdlm_jax.evaluation import quality
from semdlm_jax.kernels import NeighborTable

# Columns: what the model wrote, real text, and texts without any model.
GENERATED, HELDOUT = "generated", "heldout"
SHUFFLED, UNIGRAM, PERIODIC = "shuffled", "unigram", "periodic"
CONTROLS = (SHUFFLED, UNIGRAM, PERIODIC)
BIGRAM_TOKENS = 5_000_000  # of train, from its start, whose word bigrams are collected: more would not fit in memory


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is measured.

    Attributes:
        rows: {column: …}, each a sequence of token rows without padding: GENERATED, HELDOUT, and controls.
        texts: the same rows, decoded.
        reference: held-out texts that no column holds, which columns are compared with.
        table: the neighbors of the run.
        train_text: the first BIGRAM_TOKENS tokens of the training text, decoded.
        seed: of all randomness.
        score: gives the scorer's `Scored` of texts; None without a scorer.
    """

    rows: Mapping[str, Sequence[np.ndarray]]
    texts: Mapping[str, Sequence[str]]
    reference: Sequence[str]
    table: NeighborTable
    train_text: str
    seed: int = 0
    score: Callable[[Sequence[str]], Any] | None = None

    @property
    def compared(self) -> int:
        """Rows of the shortest column: what depends on the number of texts is taken of so many of each."""
        return min(map(len, self.rows.values()))

    @functools.cached_property
    def train_bigrams(self) -> set[tuple[str, str]]:
        return set(quality.word_bigrams(self.train_text))

    @functools.cached_property
    def scored(self) -> dict[str, Any]:
        """{column: Scored} of the scorer."""
        assert self.score is not None  # see `Measure.needs_scorer`
        return {column: self.score(texts) for column, texts in self.texts.items()}

    @functools.cached_property
    def reference_features(self) -> np.ndarray:
        """[M, D], of the scorer."""
        assert self.score is not None
        return self.score(self.reference).features
