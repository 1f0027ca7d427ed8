"""What is measured, piece by piece, and kept: a line of JSON for each cell of a table or point of a figure.

A cell belongs to one trained run or to none. A run is trained when the first of its cells is wanted, and all its cells
are measured then, so that its weights may be lost afterwards. Several commands may work at once: each takes runs that
no other holds.
"""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np

from benchmarks import bakeoff
from benchmarks.bakeoff import Entry
from benchmarks.lines import append_result, read_results
from benchmarks.timing import machine
from semdlm_jax import locks
from semdlm_jax.experiment.load import Trained, load_trained
from semdlm_jax.options import counted
from semdlm_jax.scores import prepared_of
from semdlm_jax.storage import check_writable, storage_errors, write_text


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run of a system, by which seed, and where."""

    entry: Entry
    steps: int
    seed: int
    folder: pathlib.Path

    @property
    def workdir(self) -> pathlib.Path:
        return bakeoff.place_of(self.folder, self.entry, self.steps, self.seed)

    @property
    def name(self) -> str:
        return f"{self.entry.name}, seed {self.seed}"

    def train(self) -> None:
        """Trains it to its end, where it is not yet."""
        if not self.finished:
            bakeoff.train(self.entry, self.steps, self.seed, self.workdir)
            (self.workdir / "finished").touch()

    @functools.cached_property
    def trained(self) -> Trained:
        """The model after its last step."""
        return load_trained(self.workdir, "latest")

    def split(self, name: str) -> np.ndarray:
        """The tokens of a split of its text."""
        return prepared_of(self.trained).splits[name]

    @property
    def finished(self) -> bool:
        """Whether it is trained to its end."""
        return any((self.workdir / name).exists() for name in ("finished", "result.json"))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        part: the table or figure whose file keeps it.
        key: its name among the cells of the part, with the system as `Entry.parse` reads it.
        entry, seed: of the run that it measures; None: it needs none.
        measure: makes its values of the run, as JSON; `files` among them, {name: text}, are written beside the lines.
        seconds: projected, without training.
    """

    part: str
    key: str
    entry: Entry | None
    seed: int | None
    measure: Callable[..., dict]
    seconds: float = 0.0

    @property
    def system(self) -> str:
        """A name of experiment/systems.py."""
        return self.key.partition(",")[0].partition("+")[0] if self.entry is None else self.entry.system


class Results:
    """The lines of all parts below a folder: FOLDER/PART.jsonl. Of several lines for one cell the last one counts."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def of(self, part: str) -> dict[str, dict]:
        """{key: values}."""
        return {line["key"]: line for line in read_results(self.folder / f"{part}.jsonl") if "key" in line}

    def check_writable(self, parts: Iterable[str]) -> None:
        """Makes the folder. UserError: it cannot be one, or the lines of a part cannot be written there."""
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            check_writable(self.folder / f"{part}.jsonl")

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those without a line."""
        known: dict[str, dict] = {}
        return [cell for cell in cells if cell.key not in known.setdefault(cell.part, self.of(cell.part))]

    def add(self, cell: Cell, values: dict) -> None:
        """Appends the line of a cell."""
        for name, text in values.get("files", {}).items():
            write_text(self.folder / name, text)
        values = {name: value for name, value in values.items() if name != "files"}
        seed = {} if cell.seed is None else {"seed": cell.seed}
        system = {} if cell.entry is None else {"system": cell.entry.text}
        line = {"key": cell.key, **system, **seed, **values, "machine": machine()}
        append_result(self.folder / f"{cell.part}.jsonl", line)


def by_run(cells: Iterable[Cell]) -> dict[tuple[Entry | None, int | None], list[Cell]]:
    """The cells of every run, in the order of the first of each; those of the first seed before those of the next."""
    runs: dict[tuple[Entry | None, int | None], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: -1 if cell.seed is None else cell.seed):
        runs.setdefault((cell.entry, cell.seed), []).append(cell)
    return runs


def work_off(cells, results: Results, place: Callable[[Entry, int], TrainedRun], end: float, tell=print) -> list[Cell]:
    """Measures what has no line yet.

    Args:
        cells: all that are wanted.
        results: where lines are read and kept.
        place: makes the run of an entry and a seed.
        end: no run is begun after it, as time.monotonic() tells it.
        tell: of what is going on, and of what is left with the cause.

    Returns:
        The cells that still have no line: another command is at them, or the time was over.
    """
    busy = late = 0
    for (entry, seed), wanted in by_run(results.missing(cells)).items():
        if time.monotonic() > end:
            late += len(wanted)
            continue
        run = None if entry is None or seed is None else place(entry, seed)
        with _alone(results.folder, "kernels" if run is None else str(run.workdir)) as is_ours:
            # Another command may have done some since the list was made.
            missing = results.missing(wanted)
            busy += 0 if is_ours else len(missing)
            if run is not None and is_ours and missing:
                run.train()
            for cell in missing if is_ours else ():
                began = time.monotonic()
                values = cell.measure() if run is None else cell.measure(run)
                results.add(cell, {**values, "seconds": round(time.monotonic() - began, 1)})
                tell(f"{cell.part}: {cell.key}, {time.monotonic() - began:.0f} s")
        jax.clear_caches()  # dozens of models, each with programs of its own, would fill the memory
    if busy:
        tell(f"{counted(busy, 'cell')} left to another command, which was at the same run and measures it")
    if late:
        tell(f"{counted(late, 'cell')} not begun, for the time was over: start again")
    return results.missing(cells)


@contextlib.contextmanager
def _alone(folder, name):
    """Whether nobody else holds this name; it is held during the block."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(path, name))
        except locks.Held:
            yield False
            return
        yield True
