"""The metrics of a run over time: metrics.jsonl for programs, TensorBoard events for people."""

import contextlib
import errno
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.options import counted
from semdlm_jax.runtime.processes import check_on_process_0
from semdlm_jax.storage import check_regular, check_writable, replacing, storage_errors


@contextlib.contextmanager
def _without(name):
    """As if this module were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        del sys.modules[name]


with _without("torch"):  # tensorboardX would import it to know its tensors: seconds of every start. Here are numbers.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.summary import scalar

NAME, BOARD = "metrics.jsonl", "tensorboard"
ROW = b'{"step": '  # how every row begins


class MetricWriter:
    """Writes `workdir`/metrics.jsonl (one object a line: step, time in s since the epoch, values) and tensorboard/.

    Every row is on disk, in both, when `write` returns. A run resumed at `start_step` drops the rows that an earlier
    start wrote after this step, so that every step appears once. Lines that are no rows are dropped and reported. Only
    process 0 writes; other processes may call every method.

    Args:
        workdir: the work directory.
        start_step: steps that the run has done.
        report: called with a line on dropped lines; by default it is printed on stderr.
        also: called with the step and the finite values of every row that is written.

    Raises:
        UserError: the files cannot be opened.
        StorageError: they cannot be written any more.
    """

    def __init__(
        self,
        workdir: str | Path,
        start_step: int = 0,
        report: Callable[[str], None] | None = None,
        also: Callable[[int, dict[str, float]], None] | None = None,
    ):
        self._lines: io.FileIO | None = None
        self._board: Any = None
        self._also = also or (lambda step, values: None)
        if jax.process_index() != 0:
            return
        self._path, board = Path(workdir) / NAME, Path(workdir) / BOARD
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            dropped = _keep(self._path, start_step) if os.path.lexists(self._path) else 0
        with storage_errors(board):
            board.mkdir(exist_ok=True)
            # Not tensorboardX's SummaryWriter: a killed run would lose the rows in the queue of its thread.
            self._board = EventsWriter(str(board / "events"), f".{time.time_ns()}")
            self._board.write_event(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))
            self._board.flush()
        with storage_errors(self._path):
            self._lines = open(self._path, "ab", buffering=0)
        if dropped:
            line = f"{self._path} had {counted(dropped, 'line')} without metrics, left out now"
            (report or (lambda line: print(line, file=sys.stderr)))(line)

    def write(self, step: int, values: dict[str, float], prefix: str = "") -> None:
        """Records {name: number} of a step under 'prefix/name'. In the JSONL a number that is not finite is null."""
        if self._lines is None:
            return
        row = {f"{prefix}/{name}" if prefix else name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        now = time.time()
        try:
            _append(self._lines, json.dumps({"step": int(step), "time": now, **finite}).encode() + b"\n")
            for name, value in finite.items():
                if value is not None:
                    self._board.write_event(Event(wall_time=now, step=int(step), summary=scalar(name, value)))
            self._board.flush()
        except OSError as error:
            raise StorageError(
                f"the metrics of step {step} could not be written in {self._path.parent} ({error.strerror or error}): "
                "make it possible to write there, then give the same command again"
            ) from error
        self._also(int(step), {name: value for name, value in finite.items() if value is not None})

    def close(self) -> None:
        """Nothing may be written after."""
        if self._lines is not None:
            self._lines.close()
            with contextlib.suppress(OSError):  # of events that could not be written, which was reported
                self._board.close()


def _append(file, line):
    """Writes the whole line or nothing of it."""
    before = os.fstat(file.fileno()).st_size
    try:
        while line:
            line = line[file.write(line) :]
    except OSError:
        os.ftruncate(file.fileno(), before)
        raise


def check_place(workdir: str | Path) -> None:
    """UserError, on all processes, unless a MetricWriter can write there. Called before anything is changed."""

    def look():
        path, board = Path(workdir) / NAME, Path(workdir) / BOARD
        check_regular(path)
        check_writable(path)
        with storage_errors(board):
            code = errno.ENOTDIR if not board.is_dir() else 0 if os.access(board, os.W_OK) else errno.EACCES
            if code and os.path.lexists(board):
                raise OSError(code, os.strerror(code))

    check_on_process_0(look)


def last_step(workdir: str | Path) -> int | None:
    """The largest step in `workdir`/metrics.jsonl: 0 if it has no rows, None if there is no such file.

    Raises:
        UserError: the file cannot be read.
    """
    rows = read_rows(workdir)
    return None if rows is None else max((row["step"] for row in rows), default=0)


def read_rows(workdir: str | Path) -> list[dict[str, Any]] | None:
    """The rows of `workdir`/metrics.jsonl, {step, time, name: number or None}; None if there is no such file. Lines
    that are no rows are left out, as the incomplete last line of a killed run.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(workdir) / NAME
    check_regular(path)
    try:
        with open(path, "rb") as lines:
            return [row for row, _ in map(_row, lines) if row is not None]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): move it away") from None


def _keep(path, step):
    """Rewrites the file with its rows up to `step`; returns the number of lines that are no rows."""
    foreign = 0
    with open(path, "rb") as old, replacing(path, "wb") as new:
        for line in old:
            row, whole = _row(line)
            # A killed run may leave an incomplete last line: not reported.
            foreign += row is None and line.endswith(b"\n") and not line.isspace()
            if row is not None and row["step"] <= step:
                new.write(whole)
    return foreign


def _row(line):
    """(the row, its line) of a line, also of a row that follows an incomplete one in the same line; or (None, None)."""
    for text in {line, line[max(line.rfind(ROW), 0) :]}:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            return row, text.rstrip() + b"\n"
    return None, None
