"""Numbers of a run over time: metrics.jsonl for programs, TensorBoard events for eyes."""

import json
import math
import os
import time
from pathlib import Path

import jax
from tensorboardX import SummaryWriter


class MetricWriter:
    """Writes `workdir`/metrics.jsonl (one object a line: step, time in s since the epoch, values) and tensorboard/.

    A run resumed at `start_step` drops what an earlier attempt wrote beyond it, so every step appears once. Only
    process 0 writes; the others may call every method.
    """

    def __init__(self, workdir, start_step=0):
        self._lines = self._board = None
        if jax.process_index() != 0:
            return
        path = Path(workdir) / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = path.with_suffix(".tmp")
            with open(path) as old, open(kept, "w") as new:
                new.writelines(line for line in old if _written_by(line, start_step))
            os.replace(kept, path)
        self._lines = open(path, "a", buffering=1)  # by line: a killed run loses at most one
        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step, values, prefix=""):
        """Records `values` (name -> number) of `step` under 'prefix/name'; in the JSONL a non-finite one is null."""
        if self._lines is None:
            return
        row = {f"{prefix}/{name}" if prefix else name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._lines.write(json.dumps({"step": int(step), "time": time.time(), **finite}) + "\n")
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def flush(self):
        """Brings everything written so far to disk."""
        if self._lines is not None:
            self._lines.flush()
            self._board.flush()

    def close(self):
        """Flushes and closes; nothing may be written after."""
        if self._lines is not None:
            self._lines.close()
            self._board.close()


def _written_by(line, step):
    """Whether a JSONL line is whole and belongs to `step` or an earlier one."""
    try:
        return json.loads(line)["step"] <= step and line.endswith("\n")
    except (ValueError, KeyError, TypeError):
        return False
