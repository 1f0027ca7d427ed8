"""What a report consists of: sections of figures with intervals, each with the protocol behind it, and curves.

A report is JSON: {"schema": SCHEMA, …, "sections": {name: Section}}. Whoever reads one, such as `compare`, finds every
number as a `Figure`, and its protocol beside it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from semdlm_jax.evaluation.intervals import Interval

SCHEMA = "semdlm_jax report 3"
MODEL = "model"  # the column of a figure that has no samples to compare with
OF_FIGURES = "of figures"  # the entry of Section.comparable on single figures
NORMAL_95 = 1.959964  # standard errors on each side of a 95 % interval


def around(value: float | None, error: float | None) -> Interval:
    """The 95 % interval of an estimate with a standard error; without ends where that is not known."""
    if value is None or error is None:
        return Interval(value, None, None)
    return Interval(value, value - NORMAL_95 * error, value + NORMAL_95 * error)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number, for each of the columns that it compares.

    Attributes:
        title: what it is, with its unit.
        values: {column: Interval}.
        better: 'lower', 'higher', 'near held-out', or '' where no direction is better.
        meaning: a line that explains it; '' for none.
    """

    title: str
    values: Mapping[str, Interval]
    better: str = ""
    meaning: str = ""

    def as_json(self) -> dict:
        values = {column: Interval(*value)._asdict() for column, value in self.values.items()}
        return {"title": self.title, "values": values, "better": self.better, "meaning": self.meaning}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Figure":
        values = {column: Interval(**value) for column, value in found["values"].items()}
        return cls(found["title"], values, found["better"], found["meaning"])


@dataclasses.dataclass(frozen=True)
class Curve:
    """A plot: lines {name: {"x": […], "y": […]}}, and "low", "high" where there are intervals."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[str, list]]
    log_x: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: of the section.
        protocol: in a line: what was measured how.
        figures: {name: Figure}.
        curves: {name: Curve}.
        details: whatever else is known, as JSON.
        remarks: lines for the reader, such as that a measure prefers a control to real text.
        comparable: what must be equal in two reports for their figures to be compared, {name: JSON}: the text, the
            rows, the scorer …, but neither the model nor how it writes. Under OF_FIGURES, {figure: {name: JSON}} has
            what must be equal for single figures beside that.
    """

    title: str
    protocol: str
    figures: Mapping[str, Figure]
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    comparable: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict:
        return {
            "title": self.title,
            "protocol": self.protocol,
            "figures": {name: figure.as_json() for name, figure in self.figures.items()},
            "curves": {name: dataclasses.asdict(curve) for name, curve in self.curves.items()},
            "details": dict(self.details),
            "remarks": list(self.remarks),
            "comparable": dict(self.comparable),
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Section":
        return cls(
            found["title"],
            found["protocol"],
            {name: Figure.of_json(figure) for name, figure in found["figures"].items()},
            {name: Curve(**curve) for name, curve in found["curves"].items()},
            found["details"],
            tuple(found["remarks"]),
            found["comparable"],
        )


def exp_of(interval: Interval) -> Interval:
    """exp of a value and of the ends of its interval; None where no float is that large."""
    with np.errstate(over="ignore"):
        ends = [None if x is None else float(np.exp(x)) for x in interval]
    return Interval(*(x if x is None or np.isfinite(x) else None for x in ends))


def likelihood_figures(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """{column: details of a likelihood} as figures; the interval of a perplexity is exp of that of the NELBO."""
    nelbo = {name: around(each["nelbo"], each["standard_error"]) for name, each in found.items()}
    bits = {name: around(each["bits_per_byte"], each["bits_per_byte_standard_error"]) for name, each in found.items()}
    return {
        "nelbo": Figure("NELBO (nats/token)", nelbo, "lower"),
        "perplexity": Figure("perplexity bound", {name: exp_of(value) for name, value in nelbo.items()}, "lower"),
        "bits_per_byte": Figure("bits per byte", bits, "lower"),
    }
