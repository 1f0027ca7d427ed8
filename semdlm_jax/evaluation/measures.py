"""Measures of generated text beside held-out text. To add one: extend `Measure` and list it in MEASURES, or name it as
`module:Class`.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from semdlm_jax.evaluation import quality
from semdlm_jax.kernels import NeighborTable
from semdlm_jax.options import number, shown
from semdlm_jax.plugins import Plugin, Registry, field

GENERATED, HELDOUT, SHUFFLED = "generated", "heldout", "shuffled"
BIGRAM_TOKENS = 5_000_000  # of train, from its start, whose word bigrams are collected: more would not fit in memory
Found = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is measured.

    Attributes:
        rows: {"generated": …, "heldout": …}, each a sequence of token rows without padding.
        texts: the same rows, decoded.
        table: the neighbors of the run.
        train_text: the first BIGRAM_TOKENS tokens of the training text, decoded.
    """

    rows: dict[str, Sequence[np.ndarray]]
    texts: dict[str, Sequence[str]]
    table: NeighborTable
    train_text: str

    @functools.cached_property
    def train_bigrams(self) -> set[tuple[str, str]]:
        return set(quality.word_bigrams(self.train_text))


class Measure(Plugin, abc.ABC):
    """A number, or a few, that says how generated text compares with held-out text.

    Attributes:
        title: the name of its row in a report; '' for no row.
        meaning: a line that explains it to the reader of the report; '' for none.
    """

    RETURNS = {"of": lambda found, samples: _values_problem(found)}
    title: ClassVar[str] = ""
    meaning: ClassVar[str] = ""

    @abc.abstractmethod
    def of(self, samples: Samples) -> Found:
        """{"generated": value, "heldout": value}, and values of other rows that it compares with, such as "shuffled".
        None where it has no value for such rows."""


def _values_problem(found):
    """What is wrong with the result of a user's own `of`; '' for {name: a finite float or None}."""
    if isinstance(found, dict) and all(
        v is None or isinstance(v, int | float) and math.isfinite(v) for v in found.values()
    ):
        return ""
    return f"{shown(found)}: return a dict as {{'{GENERATED}': 1.5, '{HELDOUT}': None}}, of finite floats or None"


@dataclasses.dataclass(frozen=True)
class Entropy(Measure):
    """The mean entropy of a sequence's own token counts, in nats. Comparable under one tokenizer and length only."""

    title: ClassVar[str] = "entropy of a sequence (nats)"

    def of(self, samples):
        return {name: float(quality.unigram_entropy(rows).mean()) for name, rows in samples.rows.items()}


@dataclasses.dataclass(frozen=True)
class EntropyError(Measure):
    """The standard error of that mean."""

    def of(self, samples):
        return {name: quality.standard_error(quality.unigram_entropy(rows)) for name, rows in samples.rows.items()}


@dataclasses.dataclass(frozen=True)
class BasinIndex(Measure):
    """The mean similarity of two tokens of a sequence, over that of held-out text."""

    title: ClassVar[str] = "basin index (1 = like held-out)"
    meaning: ClassVar[str] = (
        "basin index: how often tokens of like meaning meet in a sequence, over that of held-out text; above 1, too "
        "often"
    )

    def of(self, samples):
        table = samples.table
        affinity = {
            name: quality.neighbor_affinity(rows, table.ids, table.similarities).mean()
            for name, rows in samples.rows.items()
        }
        return {name: quality.ratio(value, affinity[HELDOUT]) for name, value in affinity.items()}


@dataclasses.dataclass(frozen=True)
class BigramsInTrain(Measure):
    """The share of word bigrams that occur in the training text."""

    title: ClassVar[str] = f"word bigrams that occur in train (its first {BIGRAM_TOKENS // 10**6}M tokens)"
    meaning: ClassVar[str] = (
        "shuffled: the words of the held-out text in random order, which is what a share of bigrams is without any "
        "grammar"
    )

    def of(self, samples):
        texts = dict(samples.texts)
        texts[SHUFFLED] = quality.shuffled(texts[HELDOUT])
        return {name: quality.bigram_share(found, samples.train_bigrams) for name, found in texts.items()}


@dataclasses.dataclass(frozen=True)
class Distinct(Measure):
    """Distinct n-grams of tokens over all n-grams, of equally many rows: with more rows, fewer n-grams are new."""

    n: int = field(number(2, "[1, 64]", "tokens of an n-gram"))

    title: ClassVar[str] = "distinct token bigrams"
    meaning: ClassVar[str] = (
        "distinct: different pairs of neighboring tokens over all pairs; below held-out, a text repeats itself"
    )

    def of(self, samples):
        compared = min(map(len, samples.rows.values()))
        return {name: quality.distinct(rows[:compared], self.n) for name, rows in samples.rows.items()}


MEASURES = Registry(
    "measure",
    Measure,
    {
        "entropy_nats": Entropy,
        "entropy_standard_error": EntropyError,
        "basin_index": BasinIndex,
        "bigrams_in_train": BigramsInTrain,
        "distinct_2": Distinct,
    },
)
