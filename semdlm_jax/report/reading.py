"""Reading a report that `evaluate` wrote, whoever may have changed the file since."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.report import OF_FIGURES, SCHEMA, Section
from semdlm_jax.options import shown
from semdlm_jax.storage import PathLike, check_regular

GIVE = "give a work directory, or a report that evaluate --output wrote"
ANEW = "write it anew with python -m semdlm_jax.evaluate --output"


@dataclasses.dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        workdir: the run that it is about, as `evaluate` was given it.
        checkpoint: which one was chosen: best, latest or a step.
        step: of that checkpoint.
        parameters: of the model.
        sections: {name: Section}.
    """

    workdir: str
    checkpoint: str
    step: int
    parameters: int
    sections: Mapping[str, Section]


def read_report(path: PathLike) -> Report:
    """The report in a JSON file. UserError: there is none, it is of another schema, or it is damaged."""
    check_regular(path)
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {GIVE}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON: {GIVE}") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, str) or not schema.startswith(SCHEMA.rpartition(" ")[0]):
        raise UserError(f"{path} is no report of this version: {GIVE}")
    if schema != SCHEMA:
        raise UserError(f"{path} is a {shown(schema)}, and this version reads {SCHEMA!r}: {ANEW}={path}")
    try:
        return _report_of(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        cause = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"{path} is damaged ({cause}): {ANEW}={path}") from None


def _report_of(found):
    sections = {name: Section.of_json(section) for name, section in found["sections"].items()}
    for section in sections.values():
        _check(section)
    numbers = _number(found["step"]), _number(found["parameters"])
    if None in numbers:
        raise ValueError("a step or a number of parameters is missing")
    return Report(_text(found["workdir"]), _text(found["checkpoint"]), *map(int, numbers), sections)


def _check(section):
    """TypeError or ValueError unless everything in a section is of its type."""
    for text in (section.title, section.protocol, *section.remarks):
        _text(text)
    for figure in section.figures.values():
        for text in (figure.title, figure.better, figure.meaning):
            _text(text)
        for number in (number for value in figure.values.values() for number in value):
            _number(number)
    for curve in section.curves.values():
        for text in (curve.title, curve.x, curve.y):
            _text(text)
        for line in curve.lines.values():
            if len({len([_number(number) for number in line[end]]) for end in line}) != 1 or not {"x", "y"} <= {*line}:
                raise ValueError(f"a line of {curve.title!r} has ends of several lengths")
    for more in (section.details, section.comparable, *section.comparable.get(OF_FIGURES, {}).values()):
        if not isinstance(more, dict):
            raise TypeError(f"{shown(more)} stands in the place of names and values")


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError(f"{shown(found)} is no text")
    return found


def _number(found: Any):
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float) or not _is_finite(found)):
        raise TypeError(f"{shown(found)} is no number")
    return found


def _is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False
