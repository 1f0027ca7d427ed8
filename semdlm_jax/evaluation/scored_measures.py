"""Measures of samples that read a scorer's likelihoods, or features of texts."""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import distances, intervals
from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.mauve import clusters_for, mauve
from semdlm_jax.evaluation.measure import FEATURES, HIGHER, LOWER, SCORES, Measure
from semdlm_jax.evaluation.samples import REFERENCE
from semdlm_jax.options import switch
from semdlm_jax.plugins import field


class OfFeatures(Measure):
    """A comparison of a column and held-out text that no column holds, by the features of as many texts."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def check(self, count):
        if not count:
            raise UserError("features of samples are compared with held-out text, of which the split has too few rows")

    @abc.abstractmethod
    def compare(self, features: np.ndarray, reference: np.ndarray, seed: int) -> Interval | float | None:
        """Of features [N, D] and [M, D]."""

    def of(self, samples):
        features, count = samples.features, samples.compared
        reference = features[REFERENCE]
        return {column: self.compare(features[column][:count], reference, samples.seed) for column in samples.texts}


@dataclasses.dataclass(frozen=True)
class GenerationPerplexity(Measure):
    """exp of the scorer's nats over its tokens, of all texts of a column."""

    needs: ClassVar[frozenset[str]] = frozenset({SCORES})
    title: ClassVar[str] = "generation perplexity"
    meaning: ClassVar[str] = (
        "generation perplexity: how surprising another model finds the text; text that repeats itself scores well, so "
        "read it beside the entropy"
    )
    better: ClassVar[str] = LOWER

    def of(self, samples):
        found = {}
        for column in samples.texts:
            scored = samples.scored[column]
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
