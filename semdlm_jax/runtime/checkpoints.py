"""Saving checkpoints so that damage is noticed, and deleting old ones. Only training does this."""

import contextlib
import errno
import functools
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.runtime import integrity
from semdlm_jax.runtime.checkpoint_reader import DELETING, METRICS, UNFINISHED, CheckpointReader
from semdlm_jax.runtime.processes import barrier, is_held, on_host, on_process_0

# Orbax writes the commit time into this file after the seal was made; a restore does not need it.
UNSEALED = ("_CHECKPOINT_METADATA",)
THERE = "there already"


class Checkpointer(CheckpointReader):
    """The checkpoints of one run under `directory`/<step>: the latest `keep_latest`, and the best by `best_metric`.

    The size and checksum of every file are recorded before a checkpoint gets its final name, and the name is removed
    before any of its files is deleted. Therefore a checkpoint is either complete or recognized as damaged. A damaged
    one is reported and renamed to '<step>.corrupt'. There must be only one Checkpointer for a directory. In a run of
    several processes all of them must call every method; process 0 checks, renames and deletes. They write a checkpoint
    together, if they share the directory. Otherwise process 0 gathers the state, array by array, in its memory, and
    writes it alone; the others read theirs.

    A save that fails raises a StorageError that names the last good checkpoint; its files are removed.

    Args:
        directory: for the checkpoints.
        keep_latest: number of latest checkpoints to keep.
        best_metric: the entry of the metrics that ranks checkpoints, lower is better; None keeps only the latest.
        report: called with a line for each damaged checkpoint; by default it is printed on stderr.
        shared: whether all processes have this directory, and not each a copy of what it held at the start.
    """

    def __init__(
        self,
        directory: str | Path,
        keep_latest: int = 2,
        best_metric: str | None = None,
        report: Callable[[str], None] | None = None,
        shared: bool = True,
    ):
        super().__init__(directory, best_metric, report, shared)
        if keep_latest < 1:
            raise UserError(f"keeping {keep_latest} checkpoints makes no resume possible: give 1 or more")
        self._keep_latest = keep_latest
        self._saving = None  # the step of the save under way
        self._writes = shared or jax.process_index() == 0

    @functools.cached_property
    def _writer(self):
        together = ocp.options.MultiprocessingOptions(active_processes=None if self._shared else {0})
        options = ocp.AsyncOptions(
            # Called on process 0 once all files are there and before the directory gets its final name.
            post_finalization_callback=self._seal,
            # Otherwise threads wait for minutes for a directory that cannot be created.
            create_directories_asynchronously=False,
        )
        items = {
            "state": ocp.StandardCheckpointHandler(multiprocessing_options=together),
            "data": grain.checkpoint.CheckpointHandler(),
            METRICS: ocp.JsonCheckpointHandler(METRICS, multiprocessing_options=together),
        }
        composite = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(async_options=options, multiprocessing_options=together), **items
        )
        return ocp.AsyncCheckpointer(composite, async_options=options, multiprocessing_options=together)

    def save(
        self,
        step: int,
        state: Any,
        data_iterator: grain.DatasetIterator | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Starts to save, and returns once the state may be donated. A step that is already on disk is not changed.

        Args:
            step: the name of the checkpoint.
            state: a tree of arrays.
            data_iterator: a Grain iterator whose position is saved.
            metrics: saved with the checkpoint.

        Raises:
            StorageError: this save, or the save before it, has failed.
        """
        self.wait()
        step = int(step)
        problem = on_process_0(lambda: self._make_room(step))
        if problem == THERE:
            return
        if problem:
            raise self._failed(step, problem)
        self._saving = step
        state = state if self._shared else _gathered(state)
        if not self._writes:
            return
        items: dict[str, Any] = {"state": ocp.args.StandardSave(state)}
        if data_iterator is not None:
            items["data"] = grain.checkpoint.CheckpointSave(data_iterator)
        if self._best_metric:
            finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
            items[METRICS] = ocp.args.JsonSave(finite)
        with self._one_sentence():
            self._writer.save(self._directory / str(step), args=ocp.args.Composite(**items))

    def check(self) -> None:
        """Raises the error of a save that has failed in the meantime. Returns immediately."""
        if self._saving is not None and self._writes:
            with self._one_sentence():
                self._writer.check_for_errors()

    def wait(self) -> None:
        """Blocks until the current save is on disk, then deletes checkpoints that need not be kept."""
        if self._saving is None:
            return
        if self._writes:
            with self._one_sentence():
                self._writer.wait_until_finished()
        self._saving = None
        if jax.process_index() == 0:
            self._trim()
        barrier("checkpoints trimmed")

    def close(self) -> None:
        """Waits for the current save, then releases orbax's threads."""
        try:
            self.wait()
        finally:
            if "_writer" in self.__dict__:
                self._writer.close()

    def _first_intact(self, step, read):
        self.wait()
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):  # a save would report it
                self._clear_away()
        return super()._first_intact(step, read)

    def _clear_away(self):
        """Removes checkpoints that a killed process left half written or half deleted."""
        for left in (*self._directory.glob(f"*{UNFINISHED}*"), *self._directory.glob(f"*{DELETING}")):
            _remove(left)

    def _make_room(self, step):
        """On process 0: THERE, or the reason why nothing can be written, or None."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._clear_away()
            if step in self.steps():
                return THERE
            probe = self._directory / f"{step}{UNFINISHED}-probe"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return _cause(error)

    def _seal(self):
        for folder in self._directory.glob(f"{self._saving}{UNFINISHED}*"):
            integrity.seal(folder, exclude=UNSEALED)

    def _trim(self):
        """Deletes checkpoints that are neither among the latest nor the best.

        Each is renamed first, so that no reader finds an incomplete one.
        """
        ranks = {step: self._rank(step) for step in self.steps()}
        kept = set(sorted(ranks, reverse=True)[: self._keep_latest])
        best = min(ranks, key=lambda step: ranks[step], default=None)  # the latest of equals
        if best is not None and ranks[best] < math.inf:
            kept.add(best)
        for step in ranks.keys() - kept:
            folder = self._directory / str(step)
            with contextlib.suppress(OSError):  # it may be gone already
                os.rename(folder, gone := folder.with_name(f"{step}{DELETING}"))
                _remove(gone)

    def _pass_over(self, step, problem):
        """Renames a damaged checkpoint so that it is neither listed nor overwritten."""
        folder = self._directory / str(step)
        names = (folder.with_name(f"{step}.corrupt{suffix}") for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
        if jax.process_index() == 0:
            aside = next(name for name in names if not name.exists())
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.rename(folder, aside)
                except PermissionError:
                    pass  # the checkpoint before it is read anyway
                self._report(f"checkpoint {folder} is damaged ({problem}): set aside as {aside.name}")
        barrier(f"set aside {step}")

    @contextlib.contextmanager
    def _one_sentence(self):
        """Turns the error of orbax's current save into a StorageError."""
        try:
            yield
        except (OSError, ValueError) as error:
            step, self._saving = self._saving, None
            raise self._failed(step, _cause(error)) from error

    def _failed(self, step, cause):
        """The StorageError for the save of `step`, whose files are removed."""
        if jax.process_index() == 0:
            for left in self._directory.glob(f"{step}{UNFINISHED}*"):
                _remove(left)
        last = next(iter(self.steps()), None)
        good = "there is no earlier one" if last is None else f"the last good checkpoint is step {last}"
        return StorageError(
            f"the checkpoint of step {step} could not be written in {self._directory} ({cause}); {good}: "
            "make it possible to write there, then give the same command again"
        )


def _gathered(state):
    """A tree of whole arrays on the host of process 0, which later steps do not change; None on the others."""

    first = jax.process_index() == 0

    def whole(array):
        found = on_host(array) if first or not is_held(array) else None
        return np.array(found) if first else None

    return jax.tree.map(whole, state)


def _cause(error):
    """Why a file could not be written, in the words of the operating system if possible.

    The library that writes arrays gives them inside a ValueError.
    """
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code or getattr(error, "errno", None):
        number = int(code[1]) if code else error.errno
        return "the disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else os.strerror(number)
    return " ".join(str(error).split())[:200]


def _remove(folder):
    """Removes a folder that threads of a failed save may still be writing to."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
