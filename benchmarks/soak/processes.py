"""Two processes of one run: one or both are killed or asked to stop. Then one process continues alone."""

import random
import signal
import time
from pathlib import Path

from benchmarks.soak.ground import Fault, Ground, Outcome, fault_of, last_line
from benchmarks.soak.records import counted_points, rows, steps_on_disk
from semdlm_jax.runtime import fatal

STEPS, MINUTE = 160, 60
KEYS = {"steps": STEPS, "checkpoint_every": 20, "keep_latest": 9}
# Two processes add numbers in another order than one process, and Adam amplifies the difference: losses differ by less
# than 1e-5 nats after 60 steps and by 0.1 after 160. A change of 1e-7 in one bias has the same effect in one process.
COMPARED, CLOSE = 60, 1e-3


def soak(ground: Ground, count: int, seed: int) -> Outcome:
    """Makes `count` runs, with the WAYS one after the other."""
    outcome = Outcome("runs of two processes")
    whole = ground.folder / "whole"
    result = ground.run(*ground.train(whole, **KEYS))
    if fault := fault_of(result):
        outcome.faults.append(Fault("train, on one process", str(seed), fault))
        return outcome
    seconds, apart = [0.0], [0.0]
    for index in range(count):
        if ground.late():
            break
        way, name = list(WAYS)[index % len(WAYS)], f"{seed}/{index}"
        draw, workdir = random.Random(name), ground.folder / f"two{index}"
        arguments = ground.train(workdir, **KEYS)
        running = ground.together(2, *arguments)
        fault = _go(way, draw, workdir, running, seconds) or _alone(ground, arguments, workdir, whole, apart)
        for one in running:
            one.process.kill()
            one.process.wait()
        outcome.done += 1
        if fault:
            outcome.faults.append(Fault(running[0].command, name, f"{way}: {fault}"))
    outcome.notes = [
        f"the ways, one after the other: {', '.join(WAYS)}; then one process continues to step {STEPS}.",
        f"a process whose partner was killed ended within {max(seconds):.0f} s.",
        f"the first {COMPARED} losses of continued runs are at most {max(apart):.1g} nats off those of one process.",
    ]
    return outcome


def _go(way, draw, workdir, running, seconds):
    """Trains for a while, then does what `WAYS` says. Returns what was wrong with the end of the processes, or None."""
    after = draw.randint(5, STEPS // 3)
    if not running[0].wait_for(lambda: (workdir / "metrics.jsonl").exists() and len(rows_so_far(workdir)) >= after):
        return f"did not come to step {after}: {[last_line(one.end(1).err) for one in running]}"
    return WAYS[way](draw, workdir, running, seconds)


def rows_so_far(workdir: Path) -> list[bytes]:
    """The number of lines of metrics.jsonl; the last one may be incomplete."""
    return (workdir / "metrics.jsonl").read_bytes().splitlines()


def _killed(draw, workdir, running, seconds):
    victim = draw.randrange(2)
    running[victim].process.kill()
    since = time.monotonic()
    result = running[1 - victim].end(2 * MINUTE)
    running[victim].end()
    seconds.append(time.monotonic() - since)
    if seconds[-1] > MINUTE:
        return f"process {1 - victim} ended {seconds[-1]:.0f} s after process {victim} was killed"
    sentences = [line for line in result.err.splitlines() if line.startswith("error: ")]
    if result.status == 0 or len(sentences) != 1 or not sentences[0].startswith(fatal.SENTENCE):
        return f"process {1 - victim}: status {result.status}, {len(sentences)} sentences: {result.err[-300:]}"
    return f"process {1 - victim}: {last_line(result.err)}" if "Traceback" in result.err else None


def _asked(draw, workdir, running, seconds):
    del seconds
    running[draw.randrange(2)].process.send_signal(signal.SIGTERM)
    return _stopped(workdir, running)


def _both_asked(draw, workdir, running, seconds):
    del seconds
    first = draw.randrange(2)
    running[first].process.send_signal(signal.SIGTERM)
    time.sleep(0.03)
    running[1 - first].process.send_signal(signal.SIGTERM)
    return _stopped(workdir, running)


def _stopped(workdir, running):
    results = [one.end(2 * MINUTE) for one in running]
    for index, result in enumerate(results):
        if fault := fault_of(result) or (result.status and f"status {result.status}, {last_line(result.err)}"):
            return f"process {index}: {fault}"
    last = rows(workdir)[-1]["step"]
    regular = set(range(KEYS["checkpoint_every"], last + 1, KEYS["checkpoint_every"]))
    if set(steps_on_disk(workdir)) != regular | {last}:
        return f"stopped at step {last} with checkpoints {steps_on_disk(workdir)}"
    return None if "stopped on request" in results[0].out else f"the first process said {last_line(results[0].out)!r}"


def _alone(ground, arguments, workdir, whole, apart):
    """Continues with one process to the end; returns what went wrong, or None. apart: gets the loss differences."""
    there = steps_on_disk(workdir)
    result = ground.run(*arguments)
    if fault := fault_of(result) or (result.status and last_line(result.err)):
        return f"one process alone: {fault}"
    if there and f"from step {there[-1]}\n" not in result.out:
        return f"one process alone did not continue from step {there[-1]}: {result.out[:300]}"
    both = workdir, whole
    found, wanted = ({row["step"]: row["train/loss"] for row in rows(one) if "train/loss" in row} for one in both)
    if list(found) != list(range(1, STEPS + 1)):
        return f"metrics.jsonl has {len(found)} of {STEPS} steps"
    apart.append(max(abs(found[step] - wanted[step]) for step in wanted if step <= COMPARED))
    if apart[-1] > CLOSE:
        return f"its first {COMPARED} losses are up to {apart[-1]:.3g} nats off those of one process"
    there, points = counted_points(workdir)
    return f"TensorBoard lacks {points - there} of {points} numbers" if there != points else None


WAYS = {
    "one is killed": _killed,
    "one is asked to stop": _asked,
    "both are asked to stop, 30 ms apart": _both_asked,
}
