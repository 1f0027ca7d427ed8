"""Runs side by side, in blocks: where their configurations differ, how they learned, and the figures of their reports.

Two protocols never share a table or a plot: runs that were not measured alike (`Section.comparable`) stand in blocks
of their own, and a line says what differs.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from semdlm_jax.evaluation.report import MODEL, OF_FIGURES, Curve, Figure, Section, around
from semdlm_jax.former import TABLE_MADE
from semdlm_jax.options import counted
from semdlm_jax.report.columns import SEEDS_RULE, Group, Run, columns_of, difference, differing, groups_of, told
from semdlm_jax.report.rows import OWN, figure_row, head_of, overlaid, unique

NELBO, ERROR, LOSS = "valid/nelbo", "valid/standard_error", "train/loss"
PLACES = {f"data.{name}" for name in ("directory", "corpus", "train", "valid", "test", "tokenizer")}


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a comparison.

    Attributes:
        title: of it.
        splits: what keeps runs from standing in one table or row.
        notes: what else the reader should know.
        protocols: what was measured how.
        meanings: lines that explain figures.
        head, rows: its table; the first column names the rows.
        curves: its plots.
    """

    title: str
    splits: Sequence[str] = ()
    notes: Sequence[str] = ()
    protocols: Sequence[str] = ()
    meanings: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    curves: Sequence[Curve] = ()


def compare(runs: Sequence[Run], *, by_run: bool = False) -> list[Block]:
    """The blocks of a comparison. by_run: seeds of one configuration are not put together."""
    names = unique(name for run in runs if run.report for name in run.report.sections)
    blocks = [config_block(runs, by_run=by_run), *learning_blocks(runs, by_run=by_run)]
    return blocks + [block for name in names for block in section_blocks(runs, name, by_run=by_run)]


def config_block(runs: Sequence[Run], *, by_run: bool = False) -> Block:
    """How long was trained, and the keys in which configurations differ."""
    columns, configs = columns_of(runs, by_run=by_run), _configs(runs)
    keys = sorted(differing([Group(config, (run,)) for run, config in configs.items()]))
    facts = {run: _facts(run) for run in runs}
    for run, config in configs.items():
        facts[run] |= {key: told(config, key) for key in keys}
    rows = []
    for name in unique(name for found in facts.values() for name in found):
        rows.append([name, *(", ".join(unique(facts[r][name] for r in c.runs if name in facts[r])) for c in columns)])
    notes = [SEEDS_RULE] if any(len(column.runs) > 1 for column in columns) else []
    unknown = "its work directory is not here, so its configuration is not known"
    notes += [f"{run.label}: {unknown}" for run in runs if not run.config]
    notes += [f"{run.label}: it has no report" for run in runs if run.report is None]
    return Block("Runs, and where their configurations differ", notes=notes, head=head_of(columns), rows=rows)


def _configs(runs):
    """{run: its configuration}, where it is known; with how the neighbor table was made only if all have one."""
    found = {run: run.config for run in runs if run.config}
    made = {run: any(key.startswith(f"{TABLE_MADE}.") for key in config) for run, config in found.items()}
    if all(made.values()):
        return found
    return {
        run: {key: value for key, value in config.items() if not key.startswith(f"{TABLE_MADE}.")}
        for run, config in found.items()
    }


def _facts(run):
    facts = {}
    if run.metrics:
        facts["trained"] = _steps(run, max(row["step"] for row in run.metrics))
    if run.report is not None:
        facts["checkpoint scored"] = f"{run.report.checkpoint}: {_steps(run, run.report.step)}"
        facts["parameters"] = f"{run.report.parameters:,}"
    return facts


def _steps(run, steps):
    tokens = run.tokens(steps)
    return counted(steps, "step") + ("" if tokens is None else f", {counted(tokens, 'token')}")


# Learning curves.


def learning_blocks(runs: Sequence[Run], *, by_run: bool = False) -> list[Block]:
    """Validation and training losses; each plot has runs whose losses are of the same kind."""
    valid = groups_of((run, _validated(run)) for run in runs if run.rows_with(NELBO))
    blocks = [_valid_block(group, by_run=by_run, of=valid) for group in valid]
    trained = groups_of((run, _trained(run)) for run in runs if run.rows_with(LOSS))
    return [*blocks, _loss_block(trained, by_run=by_run)] if trained else blocks


def _loss_block(groups, *, by_run):
    """Training losses: a plot for each kind that several runs have."""
    notes = ["Losses under different noise do not rank models, also where they are of one kind."]
    if len(groups) > 1:
        notes.append(f"Only losses of one kind share a plot; their kinds differ in {difference(groups)}")
    curves = []
    for group in groups:
        if len(group.runs) > 1:
            title = f"Training loss, {group.comparable.get('objective.name', 'one kind')}"
            curves += _over_tokens(group, LOSS, title, "loss (nats per token)", by_run=by_run)
    return Block("Training loss", notes=notes, curves=curves)


def _text_of(run):
    """What the text of a run's rows depends on: digests where they are recorded, else where it comes from."""
    config = run.config
    digests = {key: config[key] for key in ("trained_on.text", "trained_on.vocabulary") if key in config}
    own = {key: value for key, value in config.items() if key.startswith("data.")}
    return digests | {key: value for key, value in own.items() if not digests or key not in PLACES}


def _validated(run):
    """What must be equal for two runs' validation losses to be compared."""
    config = run.config
    sizes = [config.get(f"evaluation.{name}") for name in ("valid_batches", "batch_size")]
    times = {key: config.get(key) for key in ("evaluation.t_min", "evaluation.t_max")}
    return _text_of(run) | times | {"rows": " x ".join(map(str, sizes)) if None in sizes else sizes[0] * sizes[1]}


def _trained(run):
    """What must be equal for two runs' training losses to be of the same kind."""
    config = run.config.items()
    return _text_of(run) | {key: value for key, value in config if key.startswith(("objective.", "warmup."))}


def _valid_block(group, *, by_run, of):
    columns = columns_of(group.runs, by_run=by_run)
    last, lowest = {}, {}
    for run in group.runs:
        found = run.rows_with(NELBO)
        last[run] = _nelbo_of("valid NELBO, last (nats/token)", found[-1])
        lowest[run] = _nelbo_of("valid NELBO, lowest (nats/token)", min(found, key=lambda row: row[NELBO]))
    return Block(
        _apart("Learning curves", group, of),
        notes=_told_once("Validation", group, of),
        protocols=["the first rows of the valid split, scored during training under the EMA weights"],
        head=head_of(columns, "better"),
        rows=[figure_row(figures, columns) for figures in (last, lowest)],
        curves=_over_tokens(group, NELBO, "NELBO of the valid split", "nats per token", by_run=by_run),
    )


def _nelbo_of(title, row):
    error = row.get(ERROR)
    return Figure(title, {MODEL: around(row[NELBO], error if isinstance(error, float) else None)}, "lower")


def _over_tokens(group, metric, title, unit, *, by_run):
    """[a curve of the group's runs], against tokens where all of their batches are known."""
    known = all(run.tokens(1) is not None for run in group.runs)
    curves: dict[Run, dict[str, Curve]] = {}
    for run in group.runs:
        rows = run.rows_with(metric)
        steps = [row["step"] for row in rows]
        line = {"x": [run.tokens(step) for step in steps] if known else steps, "y": [row[metric] for row in rows]}
        curves[run] = {metric: Curve(title, "tokens seen" if known else "step", unit, {MODEL: line})}
    return overlaid(columns_of(group.runs, by_run=by_run), curves)


# Reports.


def section_blocks(runs: Sequence[Run], name: str, *, by_run: bool = False) -> list[Block]:
    """A section of the reports: a block for each group of runs that were measured alike."""
    sections = {run: run.report.sections[name] for run in runs if run.report and name in run.report.sections}
    groups = groups_of((run, _whole(section)) for run, section in sections.items())
    blocks = [_section_block(group, sections, by_run=by_run, of=groups) for group in groups]
    without = [run.label for run in runs if run.report and run not in sections]
    notes = [f"not in the report of {', '.join(without)}"] if without else []
    return [dataclasses.replace(blocks[0], notes=[*notes, *blocks[0].notes]), *blocks[1:]]


def _whole(section):
    """What must be equal for all figures of a section: all that its protocol says, where nothing else is named."""
    if not section.comparable:
        return {"protocol": section.protocol}
    return {name: value for name, value in section.comparable.items() if name != OF_FIGURES}


def _section_block(group: Group, sections: Mapping[Run, Section], *, by_run: bool, of: Sequence[Group]) -> Block:
    columns, mine = columns_of(group.runs, by_run=by_run), {run: sections[run] for run in group.runs}
    figures = [figure for section in mine.values() for figure in section.figures.values()]
    others = unique(column for figure in figures for column in figure.values if column not in OWN)
    title, rows = mine[group.runs[0]].title, []
    splits = _told_once(title, group, of)
    for name in unique(name for section in mine.values() for name in section.figures):
        found = {run: section.figures[name] for run, section in mine.items() if name in section.figures}
        alike = groups_of((run, mine[run].comparable.get(OF_FIGURES, {}).get(name, {})) for run in found)
        rows += [figure_row({run: found[run] for run in part.runs}, columns, others) for part in alike]
        splits += _told_once(found[alike[0].runs[0]].title, alike[0], alike)
    return Block(
        _apart(title, group, of),
        splits=splits,
        notes=_remarks(mine),
        protocols=_protocols(mine),
        meanings=unique(figure.meaning for figure in figures if figure.meaning),
        head=head_of(columns, *others, "better"),
        rows=rows,
        curves=overlaid(columns, {run: section.curves for run, section in mine.items()}),
    )


def _remarks(sections):
    """The remarks of all runs; with the name of the run where not all have the same."""
    lists = {run: section.remarks for run, section in sections.items()}
    alike = len(set(lists.values())) == 1
    return unique(line if alike else f"{run.label}: {line}" for run, lines in lists.items() for line in lines)


def _apart(title, group, of):
    """The title of a block; with the runs in it where there are several such blocks."""
    return title if len(of) == 1 else f"{title}: {', '.join(run.label for run in group.runs)}"


def _told_once(title, group, of):
    """[what differs among groups], for the first of them."""
    if len(of) == 1 or group is not of[0]:
        return []
    return [f"{title}: not measured alike, so shown apart: {difference(of)}"]


def _protocols(sections):
    """The line of each run; once where all have the same."""
    lines = {run: section.protocol for run, section in sections.items()}
    if len(set(lines.values())) == 1:
        return unique(lines.values())
    return [f"{run.label}: {line}" for run, line in lines.items()]
