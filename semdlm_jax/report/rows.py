"""Rows of a comparison: a figure of several runs, the best of them, and curves of several runs in one plot."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.measure import HIGHER, LOWER, NEAR
from semdlm_jax.evaluation.report import MODEL, Curve, Figure
from semdlm_jax.evaluation.samples import CONTROLS, GENERATED, HELDOUT
from semdlm_jax.report.columns import Column, Run, mean_of
from semdlm_jax.report.table import cell

OWN = (MODEL, GENERATED)  # columns and lines of a report that are the model's
BEST = " *"
BEST_RULE = "* is the best of its row, where its interval overlaps no other's"
Line = Mapping[str, list]


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def head_of(columns: Sequence[Column], *more: str) -> list[str]:
    return ["", *(column.label for column in columns), *more]


def figure_row(figures: Mapping[Run, Figure], columns: Sequence[Column], others: Sequence[str] = ()) -> list[str]:
    """The row of a figure: its title, a cell a column, a cell for each of the others, and which values are better.

    Args:
        figures: of the runs that have it.
        columns: of the table.
        others: further columns, such as controls, which are shown as in the first report that has them.
    """
    first = next(iter(figures.values()))
    values = {column.label: mean_of(own) for column in columns if (own := _own(figures, column))}
    further: dict[str, Interval] = {}
    for figure in figures.values():
        further = {**figure.values, **further}
    best = best_of({label: value for label, (value, _) in values.items()}, first.better, further.get(HELDOUT))
    row = [first.title]
    for column in columns:
        value, count = values.get(column.label, (None, 0))
        seeds = f" (n = {count})" if len(column.runs) > 1 else ""
        row.append("" if value is None else cell(value) + seeds + BEST * (column.label == best))
    return [*row, *(cell(further[name]) if name in further else "" for name in others), first.better]


def _own(figures, column):
    """The values of a column's runs, in the columns of their reports that are the model's."""
    found = [figures[run].values for run in column.runs if run in figures]
    own = [next((values[name] for name in OWN if name in values), None) for values in found]
    return [value for value in own if value is not None]


def best_of(values: Mapping[str, Interval], better: str, held_out: Interval | None = None) -> str | None:
    """The column with the best value, if its interval overlaps no other's; else None.

    Args:
        values: {column: Interval}.
        better: as in `Figure`; 'near held-out' is the smallest distance from the interval of held-out text.
        held_out: its value.
    """
    ranges = [(column, _range(value, better, held_out)) for column, value in values.items() if value.value is not None]
    known = sorted((ends, column) for column, ends in ranges if ends is not None)
    if len(known) < 2 or len(known) < len(ranges):
        return None
    (_, high), best = min(known, key=lambda one: one[0][1])
    return best if all(high < low for (low, _), column in known if column != best) else None


def _range(value, better, held_out):
    """(low, high) of a number that is better when smaller; None where there is no interval, or no better direction."""
    if None in value:
        return None
    if better == LOWER:
        return value.low, value.high
    if better == HIGHER:
        return -value.high, -value.low
    if better != NEAR or held_out is None or held_out.value is None:
        return None
    low, high = (held_out.value if end is None else end for end in (held_out.low, held_out.high))
    return max(0.0, value.low - high, low - value.high), max(value.high - low, high - value.low)


def overlaid(columns: Sequence[Column], curves: Mapping[Run, Mapping[str, Curve]]) -> list[Curve]:
    """The curves of runs, {run: {name: Curve}}, each name in one plot with a line a column.

    Lines of controls are drawn once. Of several runs in a column the mean is drawn, with the interval of `mean_of`,
    where all have the same x; else each has its own line.
    """
    plots: dict[tuple, Curve] = {}
    for column in columns:
        mine = {run: curves[run] for run in column.runs if run in curves}
        for name in unique(name for found in mine.values() for name in found):
            found = {run: mine[run][name] for run in mine if name in mine[run]}
            first = next(iter(found.values()))
            before = plots.get((name, first.x, first.y), dataclasses.replace(first, lines={})).lines
            lines = {**before, **_lines_of(column, {run: curve.lines for run, curve in found.items()}), **before}
            plots[name, first.x, first.y] = dataclasses.replace(first, lines=lines)
    return list(plots.values())


def _lines_of(column, lines):
    """The lines of a column in a plot, by their names there. lines: {run: {name: line}}."""
    drawn = {}
    for name in unique(name for found in lines.values() for name in found):
        mine = {run: found[name] for run, found in lines.items() if name in found}
        end = "" if name in OWN else f": {name}"
        if name in (HELDOUT, *CONTROLS):
            drawn[name] = next(iter(mine.values()))
        elif (mean := mean_line(list(mine.values()))) is not None:
            drawn[column.label + end] = mean
        else:
            drawn |= {run.label + end: line for run, line in mine.items()}
    return drawn


def mean_line(lines: Sequence[Line]) -> Line | None:
    """The mean of lines with its interval; None where their x differ."""
    if len(lines) == 1:
        return lines[0]
    if any(line["x"] != lines[0]["x"] for line in lines):
        return None
    means = [mean_of([Interval(y, None, None) for y in ys]) for ys in zip(*(line["y"] for line in lines), strict=True)]
    whole = [mean if count == len(lines) else Interval(None, None, None) for mean, count in means]
    return {
        "x": lines[0]["x"],
        "y": [v.value for v in whole],
        "low": [v.low for v in whole],
        "high": [v.high for v in whole],
    }
