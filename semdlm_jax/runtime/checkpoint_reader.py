"""Reading the checkpoints of a run, also while it is trained: nothing is written, renamed or deleted here."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import integrity
from semdlm_jax.runtime.paths import differences, path_text
from semdlm_jax.runtime.processes import first_told, on_process_0
from semdlm_jax.runtime.quiet import quieten, reading

STEP = re.compile("0|[1-9][0-9]*")  # the name of a checkpoint
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of what is being written
DELETING = ".deleting"  # ends the name of what is being deleted
METRICS = "metrics"  # item of a checkpoint, and the file in it
GONE = "is gone"
Step = int | str  # a number, 'latest' or 'best'


class CheckpointReader:
    """The checkpoints of one run under `directory`/<step>, which a training may be writing at the same time.

    Nothing in `directory` is changed. A checkpoint that is deleted while it is read is skipped. A damaged one is
    reported and skipped. In a run of several processes all of them must call every method; process 0 reads the
    directory.

    Args:
        directory: with the checkpoints.
        best_metric: the entry of the saved metrics that ranks checkpoints; lower is better.
        report: called with a line for each damaged checkpoint; by default it is printed on stderr.
        shared: whether all processes have this directory, and not each a copy. Each looks for damage in its own copy.
    """

    def __init__(
        self,
        directory: str | Path,
        best_metric: str | None = None,
        report: Callable[[str], None] | None = None,
        shared: bool = True,
    ):
        quieten()
        self._directory = Path(directory).absolute()
        self._best_metric = best_metric
        self._shared = shared
        self._report = report or (lambda line: print(line, file=sys.stderr))

    def steps(self) -> list[int]:
        """The steps on disk, latest first. A complete checkpoint has its step as its name."""
        names = (folder.name for folder in self._folders() if STEP.fullmatch(folder.name))
        return sorted(map(int, names), reverse=True)

    def restore(
        self, abstract_state: Any, data_iterator: grain.DatasetIterator | None = None, step: Step = "latest"
    ) -> tuple[Any, int] | None:
        """Restores a checkpoint.

        Instead of a damaged checkpoint the one before it (or the next best) is read. If no checkpoint has the metric,
        the latest is read instead of the best, and this is reported.

        Args:
            abstract_state: a tree of ShapeDtypeStructs with shardings. The mesh and the number of processes may differ
                from those of the run that saved.
            data_iterator: moved to the saved position, if given.
            step: 'latest', 'best' or a number.

        Returns:
            (state, step); None if nothing was ever saved.

        Raises:
            UserError: no checkpoint is intact, `step` does not exist, or the checkpoint does not fit `abstract_state`.
        """
        return self._first_intact(step, lambda folder: self._read(folder, abstract_state, data_iterator))

    def restore_parts(self, abstract_parts: dict, step: Step = "latest") -> tuple[dict, int] | None:
        """As `restore`, but only the parts of the state in `abstract_parts`, e.g. {'ema_params': tree}."""
        return self._first_intact(step, lambda folder: _read_parts(folder, abstract_parts))

    def find(self, abstract_parts: dict, step: Step = "latest") -> int | None:
        """The step that `restore_parts` would read, without reading it. It raises the same errors."""
        parts = [f"{part}/" for part in abstract_parts]
        found = self._first_intact(step, lambda folder: _check_shapes(folder, abstract_parts, parts))
        return None if found is None else found[1]

    def read_array(self, path: str, step: Step = "latest") -> np.ndarray | None:
        """One array of the state, on the host, without reading the others.

        Args:
            path: of the array, e.g. 'ema_params/embed/embedding'.
            step: as in `restore`.

        Returns:
            The array; None if nothing was ever saved.

        Raises:
            UserError: as in `restore`, or the state has no such array.
        """
        found = self._first_intact(step, lambda folder: _read_array(folder, path))
        return None if found is None else found[0]

    def digest(self, step: int) -> str:
        """A digest of the contents of the checkpoint `step`."""
        return integrity.digest(self._directory / str(step))

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with the checkpoint `step`; {} if there are none or they cannot be read."""
        try:
            return dict(json.loads((self._directory / str(step) / METRICS / METRICS).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _first_intact(self, step, read):
        """(read(folder), its step) of the first undamaged candidate; None if nothing was ever saved."""
        failed = set()
        while there := on_process_0(self._ranked):
            candidates = [one for one in self._candidates(step, there) if one not in failed]
            if not candidates:
                break
            candidate = candidates[0]
            problem = self._problem(candidate)
            if problem is None:
                try:
                    with reading():
                        found = read(self._directory / str(candidate))
                    problem = self._problem(candidate, contents=False)
                except Exception:
                    problem = self._problem(candidate)
                    if problem is None:  # the checkpoint is intact, so the request is wrong
                        raise
                if problem is None:
                    self._tell_unranked(step, candidate, dict(there))
                    return found, candidate
            if problem != GONE:
                failed.add(candidate)
                self._pass_over(candidate, problem)
        if failed or on_process_0(lambda: any(self._directory.glob("*.corrupt*"))):
            others = sorted({one for one, _ in there or []} - failed)
            if others:  # a step was asked for, and these are other steps
                numbers = ", ".join(map(str, others))
                raise UserError(
                    f"checkpoint {self._directory / str(step)} is damaged: put back its files, or take another step: "
                    f"there are {numbers}"
                )
            raise UserError(
                f"no intact checkpoint is left in {self._directory}: put back its files, or train again elsewhere"
            )
        if renamed := on_process_0(self._renamed):
            raise UserError(
                f"no checkpoint in {self._directory} has its step as its name, but {renamed} looks like one: "
                "rename it to its step, e.g. 12"
            )
        return None

    def _folders(self):
        try:
            return [path for path in self._directory.iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _renamed(self):
        """The name of a complete checkpoint that was renamed, or None."""
        others = (path for path in self._folders() if not re.search(f"{UNFINISHED}|{DELETING}", path.name))
        return next((path.name for path in others if (path / integrity.NAME).exists()), None)

    def _problem(self, step, contents=True):
        """What is wrong with a checkpoint, or None; GONE if it does not exist any more."""

        def look():
            folder = self._directory / str(step)
            found = integrity.damage(folder, contents=contents)
            return GONE if found and not folder.is_dir() else found

        found = on_process_0(look)
        if found or self._shared:
            return found
        # What process 0 has says nothing of the copies of the others, and they would read other weights, or wait.
        first = jax.process_index() == 0
        return first_told(None if first else integrity.damage(self._directory / str(step), contents=contents))

    def _pass_over(self, step, problem):
        folder = self._directory / str(step)
        if jax.process_index() == 0:
            self._report(f"checkpoint {folder} is damaged or being deleted ({problem}): passed over")

    def _tell_unranked(self, step, candidate, ranks):
        if step == "best" and ranks[candidate] == math.inf and jax.process_index() == 0:
            none = f"no checkpoint in {self._directory} has a {self._best_metric!r} recorded"
            self._report(f"{none}: the latest is read, step {candidate}")

    def _ranked(self):
        """[[step, rank]], latest first."""
        return [[step, self._rank(step)] for step in self.steps()]

    def _rank(self, step):
        """The metric that ranks a checkpoint: inf if it has none, -inf if its file is damaged.

        A damaged one is thus looked at first, where the damage is found.
        """
        folder = self._directory / str(step)
        if not self._best_metric or not (folder / METRICS).exists():
            return math.inf
        if integrity.damage(folder, f"{METRICS}/"):
            return -math.inf
        try:
            return float(self.metrics(step)[self._best_metric])
        except (ValueError, KeyError, TypeError):
            return math.inf

    def _candidates(self, step, there):
        """The steps to try, in order. there: as of `_ranked`, not empty."""
        steps = [one for one, _ in there]
        if step == "latest":
            return steps
        if step == "best":
            if not self._best_metric:
                raise UserError("no best checkpoint is tracked: name the metric that ranks them, or ask for the latest")
            return [one for one, _ in sorted(there, key=lambda found: found[1])]  # the latest of equals first
        if step not in steps:
            numbers = ", ".join(map(str, reversed(steps)))
            raise UserError(f"no checkpoint at step {step} in {self._directory}: there are {numbers}")
        return [step]

    def _read(self, folder, abstract_state, data_iterator):
        _check_shapes(folder, abstract_state)
        try:
            if data_iterator is not None:
                _move(data_iterator, folder / "data")
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                return checkpointer.restore(folder / "state", args=ocp.args.StandardRestore(abstract_state))
        except (ValueError, KeyError, FileNotFoundError) as error:
            cause = " ".join(str(error).split())[:200]
            raise UserError(
                f"checkpoint {folder} does not fit this data pipeline or number of processes ({cause}):"
                " use the configuration it was saved with"
            ) from error


def _check_shapes(folder, abstract, parts=("",)):
    """UserError unless the state's arrays below `parts` have the shapes of `abstract`; orbax's message is long."""
    there = _stored_shapes(folder)
    there = {path: shape for path, shape in there.items() if path.startswith(tuple(parts))}
    if differing := differences(_shapes(abstract), there):
        raise UserError(f"checkpoint {folder} is of another model or optimizer ({differing}): use its config")


def _read_parts(folder, abstract):
    _check_shapes(folder, abstract, [f"{part}/" for part in abstract])
    targets = ocp.checkpoint_utils.construct_restore_args(abstract)
    wanted = ocp.args.PyTreeRestore(item=abstract, restore_args=targets, partial_restore=True)
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "state", args=wanted)


def _read_array(folder, path):
    if path not in _stored_shapes(folder):
        raise UserError(f"checkpoint {folder} holds no {path}: it is of another kind of model")
    tree = ocp.RestoreArgs(restore_type=np.ndarray)
    for name in reversed(path.split("/")):
        tree = {name: tree}
    wanted = ocp.args.PyTreeRestore(item=jax.tree.map(lambda _: 0, tree), restore_args=tree, partial_restore=True)
    with ocp.PyTreeCheckpointer() as checkpointer:
        (array,) = jax.tree.leaves(checkpointer.restore(folder / "state", args=wanted))
    return array


def _stored_shapes(folder):
    return _shapes(ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree)


def _shapes(tree):
    """{path: shape} of a tree of arrays or their descriptions."""
    return {path_text(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _move(iterator, folder):
    """Moves a Grain iterator to the position saved in `folder`.

    The position is the same on all processes: if another number of processes saved it, that of process 0 is used.
    ValueError: there is no position, or it is that of another pipeline.
    """
    own = folder / f"process_{jax.process_index()}-of-{jax.process_count()}.json"
    path = own if own.exists() else next(iter(sorted(folder.glob("process_0-of-*.json"))), None)
    if path is None:
        raise ValueError(f"no position in the data was saved in {folder}")
    iterator.set_state(json.loads(path.read_text()))
    iterator.start_prefetch()
