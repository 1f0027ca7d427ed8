"""Kills trainings at random file-system calls, again and again. They must continue without help."""

import collections
import json
import random
import re
import signal
from pathlib import Path

import numpy as np

from benchmarks.soak.ground import Fault, Ground, Outcome, fault_of, last_line
from benchmarks.soak.records import counted_points, end_of, steps_on_disk, untimed
from semdlm_jax.options import counted

KEYS = {"steps": 16, "checkpoint_every": 2, "keep_latest": 2, "eval_every": 8}
TERMINATED = 0.2  # the share of kills that are SIGTERM instead of SIGKILL
OWN = {"config.json", "metrics.jsonl", "tensorboard", "checkpoints"}


def soak(ground: Ground, count: int, seed: int) -> Outcome:
    """Makes runs until there were `count` kills; compares each with a run that was not stopped."""
    outcome = Outcome("kills")
    whole, log = ground.folder / "whole", ground.folder / "calls"
    result = ground.run(*ground.train(whole, **KEYS), **ground.watched(whole, log))
    if fault := fault_of(result) or problem_of_end(whole, whole):
        outcome.faults.append(Fault("train, uninterrupted", str(seed), fault))
        return outcome
    struck, points, left, runs = collections.Counter(), np.zeros(2, int), 0, 0
    calls = len(log.read_text().splitlines())
    while outcome.done < count and runs < count and not ground.late():
        workdir, name = ground.folder / f"killed{runs}", f"{seed}/{runs}"
        one = _Chain(ground, workdir, random.Random(name), calls)
        fault = one.go(count - outcome.done) or problem_of_end(workdir, whole)
        outcome.done += len(one.killed)
        struck.update(one.killed)
        if fault:
            outcome.faults.append(Fault(one.command, name, f"after {counted(len(one.killed), 'kill')}: {fault}"))
        else:
            points += counted_points(workdir)
            left += sum(path.name not in OWN for path in workdir.iterdir())
        runs += 1
    outcome.notes = [
        f"{counted(outcome.done, 'kill')} in {counted(runs, 'run')} of {KEYS['steps']} steps; a run that is not "
        f"stopped makes {calls} file-system calls that change something.",
        f"TensorBoard has {points[0]} of the {points[1]} numbers in metrics.jsonl.",
        f"{counted(left, 'half-written file')} remained.",
        "Killed at: " + ", ".join(f"{call} {number}" for call, number in sorted(struck.items())) + ".",
    ]
    return outcome


class _Chain:
    """One run, started again until it is finished. killed: the call at which each kill happened. command: the last."""

    def __init__(self, ground, workdir, draw, calls):
        # A third of the calls of a whole run, so that a run is killed several times.
        self.ground, self.workdir, self.draw, self.calls = ground, workdir, draw, calls // 3
        self.killed, self.command = [], ""

    def go(self, most: int) -> str | None:
        """Kills at most so many times. Returns what went wrong, or None."""
        log = self.workdir.with_suffix(".calls")
        for start in range(most + 1):
            at = self.draw.randint(1, self.calls) if start < most and not self.ground.late() else 0
            signum = signal.SIGTERM if self.draw.random() < TERMINATED else signal.SIGKILL
            there = steps_on_disk(self.workdir)
            log.unlink(missing_ok=True)
            watched = self.ground.watched(self.workdir, log, at, signum)
            running = self.ground.start(*self.ground.train(self.workdir, **KEYS), **watched)
            self.command = f"{running.command} (start {start + 1}, {signum.name} at call {at})"
            result, calls = running.end(), log.read_text().splitlines() if log.exists() else []
            reached = 0 < at <= len(calls)
            if fault := self._fault(result, signum if reached else None, there):
                return fault
            if not reached:
                return None
            self.killed.append(f"{signum.name} {_kind(calls[at - 1])}")
        return None

    def _fault(self, result, signum, there):
        """What went wrong in one start, or None. there: the checkpoints that existed before."""
        if result.status != (-signum if signum == signal.SIGKILL else 0):
            return fault_of(result) or f"status {result.status}, {last_line(result.err)}"
        if "damaged" in result.err or "no rows" in result.err:
            return f"told of damage: {result.err[-300:]}"
        found = re.search(r"from step (\d+)", result.out)
        if found is None and (signum == signal.SIGKILL or not there or there[-1] == KEYS["steps"]):
            return None  # there was no checkpoint to continue from, or no time to print it
        if found is None and "stopped on request" in result.out + result.err:
            return None
        if found is None or not there or int(found[1]) != there[-1]:
            return f"checkpoints {there}, but it said {found and found[0]!r}"
        return None


def _kind(line):
    """The call and the kind of file in a line of the log."""
    call, _, path = line.partition(" ")
    parts = [part for part in Path(path).parts if part != "/"]
    if not parts:
        place = "the directory"
    elif parts[0] == "checkpoints":
        place = "checkpoints" if len(parts) == 1 else "of a checkpoint"
    else:
        place = re.sub(r"^\.(.*)\.partial-.*", r"\1", parts[0])
    return f"{call.removesuffix('64')} {place}"


def problem_of_end(workdir: Path, whole: Path) -> str | None:
    """How a finished run differs from the run that was not stopped, or None."""
    found, wanted = untimed(workdir), untimed(whole)
    steps = [row["step"] for row in found if "train/loss" in row]
    if steps != list(range(1, KEYS["steps"] + 1)):
        return f"metrics.jsonl has steps {json.dumps(steps)}"
    if found != wanted:
        return "metrics.jsonl has other numbers than the run that was not stopped"
    (step, arrays), (other_step, others) = end_of(workdir), end_of(whole)
    if step != other_step or not all(map(np.array_equal, arrays, others)):
        return f"the state of step {step} is not that of step {other_step} of the run that was not stopped"
    there, points = counted_points(workdir)
    if there != points:
        return f"TensorBoard lacks {points - there} of {points} numbers"
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    if not all(name.isdigit() for name in names):
        return f"its checkpoints are {names}"
    return None
