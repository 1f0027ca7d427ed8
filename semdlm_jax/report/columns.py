"""Runs to compare: which stand in one column, as seeds of one configuration, and which cannot stand in one table."""

import dataclasses
import json
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from scipy.special import stdtrit  # jax brings scipy

from semdlm_jax.evaluation.intervals import LEVEL, Interval
from semdlm_jax.options import flatten
from semdlm_jax.report.reading import Report

SEED, ABSENT = "seed", "absent"
DIGEST = re.compile("[0-9a-f]{64}")
SEEDS_RULE = (
    "Several seeds in one column: the mean over n runs whose configurations differ in the seed alone, and its 95 % "
    "interval by Student's t from the spread of the runs; the intervals of single runs are not in it."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run to compare.

    Attributes:
        label: the name of its column.
        config: {dotted key: value} of its record; {} where it is not known.
        report: what `evaluate` wrote; None without.
        metrics: the rows of its metrics.jsonl.
    """

    label: str
    config: Mapping[str, Any]
    report: Report | None = None
    metrics: Sequence[Mapping[str, Any]] = ()

    def tokens(self, steps: int) -> int | None:
        """Tokens of so many steps, padding included; None where the sizes of batches are not known."""
        batch, length = (self.config.get(key) for key in ("training.batch_size", "data.length"))
        return steps * batch * length if isinstance(batch, int) and isinstance(length, int) else None

    def rows_with(self, metric: str) -> list[Mapping[str, Any]]:
        """The rows in which a metric is a number, by step."""
        rows = [row for row in self.metrics if type(row.get(metric)) in (int, float)]
        return sorted(rows, key=lambda row: row["step"])


@dataclasses.dataclass(frozen=True)
class Column:
    """Runs whose mean is shown: seeds of one configuration, or a single run."""

    label: str
    runs: tuple[Run, ...]


def columns_of(runs: Iterable[Run], *, by_run: bool = False) -> list[Column]:
    """The columns of runs, in order of their first runs. by_run: a column a run.

    Seeds of one configuration are runs whose records agree in every key but the seed, whose seeds all differ, and whose
    reports are on the same choice of checkpoint.
    """
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(id(run) if by_run or not run.config else _but_seed(run), []).append(run)
    columns: list[Column] = []
    for group in groups.values():
        seeds = [run.config.get(SEED) for run in group]
        together = len(set(seeds)) == len(seeds)
        for members in [group] if together else [[run] for run in group]:
            columns.append(Column(_label(members, {column.label for column in columns}), tuple(members)))
    return columns


def _but_seed(run):
    config = {key: value for key, value in run.config.items() if key != SEED}
    return json.dumps([config, run.report and run.report.checkpoint], sort_keys=True)


def _label(members, taken):
    """'mdlm (seeds 0, 1)' of mdlm-0 and mdlm-1."""
    first = members[0].label
    if len(members) == 1:
        return first
    common = os.path.commonprefix([run.label for run in members])
    stem = re.sub(r"[^\W_]*$", "", common).rstrip("-_./ ") or first
    seeds = f" (seeds {', '.join(str(run.config.get(SEED)) for run in members)})"
    return stem + seeds if stem + seeds not in taken else first + seeds


def mean_of(values: Sequence[Interval]) -> tuple[Interval, int]:
    """(a column's value, how many runs have one): that of a single run, or SEEDS_RULE's mean and interval.

    Source: mean ± t(0.975; n - 1) s / sqrt(n), with s the standard deviation of n values.
    """
    known = [value for value in values if value.value is not None]
    if len(known) < 2:
        return (known[0] if known else Interval(None, None, None)), len(known)
    numbers = [value.value for value in known if value.value is not None]
    count, mean = len(numbers), sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / (count - 1)
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * (variance / count) ** 0.5
    return Interval(mean, mean - reach, mean + reach), count


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that compare. comparable: what is equal in them, {name: value}."""

    comparable: Mapping[str, Any]
    runs: tuple[Run, ...]


def groups_of(comparable: Iterable[tuple[Run, Mapping[str, Any]]]) -> list[Group]:
    """Runs in groups whose `comparable` is equal, in order of their first runs."""
    found: dict[str, Group] = {}
    for run, what in comparable:
        flat = flatten(what)
        key = json.dumps(flat, sort_keys=True)
        found[key] = Group(flat, (*(found[key].runs if key in found else ()), run))
    return list(found.values())


def differing(groups: Sequence[Group]) -> list[str]:
    """The names whose values differ among groups."""
    names = dict.fromkeys(name for group in groups for name in group.comparable)
    return [name for name in names if len({_entry(group.comparable, name) for group in groups}) > 1]


def _entry(flat, name):
    return json.dumps(flat[name]) if name in flat else ABSENT


def difference(groups: Sequence[Group]) -> str:
    """'rows: packed … (a, b) / wrapped … (c)' of what differs among groups; '' for one group."""
    parts = []
    for name in differing(groups):
        holders: dict[str, list[str]] = {}
        for group in groups:
            holders.setdefault(told(group.comparable, name), []).extend(run.label for run in group.runs)
        parts.append(f"{name}: " + " / ".join(f"{value} ({', '.join(who)})" for value, who in holders.items()))
    return "; ".join(parts)


def told(flat: Mapping[str, Any], name: str) -> str:
    """A value as text: digests by their first digits."""
    if name not in flat:
        return ABSENT
    value = flat[name]
    if not isinstance(value, str):
        return json.dumps(value)
    return value[:12] if DIGEST.fullmatch(value) else value or "''"
