"""Compares runs: python -m semdlm_jax.compare RUN RUN … [--output=compare.html]

A RUN is a work directory, whose report.json is read where there is one, or a report that evaluate --output wrote.
Shows where the configurations differ, the learning curves, and the figures and curves of the reports. Figures that were
not measured alike stand in tables of their own, and what differs is told. Runs whose configurations differ in the seed
alone stand in one column: their mean.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from semdlm_jax import cli, remote
from semdlm_jax.errors import UserError
from semdlm_jax.options import flatten
from semdlm_jax.record import CONFIG, HISTORY, PLACES, read_config
from semdlm_jax.report.columns import Run
from semdlm_jax.report.comparison import compare
from semdlm_jax.report.comparison_page import page_of, text_of
from semdlm_jax.report.plots import check_folder, file_name, write_curves
from semdlm_jax.report.reading import GIVE, Report, read_report
from semdlm_jax.runtime.metrics import read_rows
from semdlm_jax.storage import same_file, write_text

REPORT = "report.json"  # in a work directory


def read_runs(words: Sequence[str]) -> list[Run]:
    """The runs of a command line. UserError: too few, one twice, or one that is none."""
    if len(words) < 2:
        few = "one run is given, which is compared with nothing" if words else "no runs are given"
        raise UserError(f"{few}: give two or more work directories, or reports that evaluate --output wrote")
    found: dict[str, str] = {}
    for word in words:
        place = os.path.realpath(_report_in(word))
        if place in found:
            raise UserError(f"{found[place]} and {word} are the same run: give each once")
        found[place] = word
    return [_read(word, label) for word, label in zip(words, labels_of(words), strict=True)]


def labels_of(words: Sequence[str]) -> list[str]:
    """Names of columns: what the paths have not in common."""
    paths = [os.path.abspath(word) for word in words]
    names = [path.removesuffix(f"{os.sep}{REPORT}").removesuffix(".json") for path in paths]
    if len(set(names)) < len(names):
        names = paths
    common = os.path.commonpath(names)
    return [os.path.relpath(name, common if name != common else os.path.dirname(common)) for name in names]


def _report_in(word):
    """The file of a report that a word stands for; the word itself, or its copy here, where there is none."""
    word = _here(word)
    path = os.path.join(word, REPORT)
    return path if os.path.isdir(word) and os.path.lexists(path) else word


def _here(word):
    """The word, or the copy of its address: of a run all but its weights."""
    return os.fspath(remote.local(word, leave_out=("checkpoints",)))


def _read(word, label):
    word, path = _here(word), _report_in(word)
    if os.path.isdir(path):  # a work directory without a report
        return _run(label, word, None)
    if not os.path.lexists(path):
        raise UserError(f"{word} does not exist: {GIVE}")
    report = read_report(path)
    # A report lies in its own work directory, or says where that was.
    places = [word] if os.path.isdir(word) else [report.workdir, os.path.dirname(path)]
    found = [place for place in places if os.path.exists(pathlib.Path(place) / CONFIG)]
    return _run(label, found[0], report) if found else Run(label, {}, report)


def _run(label: str, workdir: str, report: Report | None) -> Run:
    """A run with what its work directory holds."""
    config = {key: value for key, value in read_config(workdir).items() if key not in (PLACES, HISTORY)}
    return Run(label, flatten(config), report, read_rows(workdir) or ())


def check_output(words: Sequence[str], output: str | None) -> None:
    """UserError where the page cannot be written, or would replace what is read."""
    cli.check_output(output)
    for word in words if output else ():
        if same_file(str(output), _report_in(word)):
            raise UserError(f"--output={output} is a report that is read: give a file of another name")


def main(words: Sequence[str], options: Any) -> None:
    """Prints the comparison and writes its page."""
    check_output(words, options.output)
    if options.plots:
        check_folder(options.plots)
    runs = read_runs(words)
    blocks = compare(runs, by_run=options.by_run)
    splits = [line for block in blocks for line in block.splits]
    if splits and options.strict:
        raise UserError(f"--strict refuses this; {splits[0]}: measure them alike, or leave --strict out")
    print(text_of(blocks))
    if options.plots:
        curves = ((file_name(f"{block.title} {curve.title}"), curve) for block in blocks for curve in block.curves)
        write_curves(options.plots, curves)
    if options.output:
        write_text(options.output, page_of(f"Comparison of {', '.join(run.label for run in runs)}", blocks))
        print(f"written to {options.output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "A page, .html, with the tables and the plots.")
    flags.DEFINE_string("plots", None, "A folder for every plot, as .svg, .png and .csv.")
    flags.DEFINE_bool("strict", False, "Refuse runs that were not measured alike instead of showing them apart.")
    flags.DEFINE_bool("by_run", False, "A column for each run, also where runs differ in the seed alone.")
    cli.run(lambda words: main(words, flags.FLAGS), required=[], takes_words=True)
