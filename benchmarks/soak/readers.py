"""Readers of a run while a trainer constantly saves and deletes checkpoints: neither may disturb the other."""

import collections
import itertools
import random

from benchmarks.soak.ground import Fault, Ground, Outcome, fault_of, last_line

KEYS = {"steps": 10**6, "checkpoint_every": 1, "keep_latest": 1, "eval_every": 7}
READERS = (
    ("evaluate", "--samples=0", "--checkpoint=latest"),
    ("generate", "--num_samples=2", "--steps=4", "--checkpoint=best"),
    ("evaluate", "--samples=4", "--checkpoint=best"),
    ("generate", "--num_samples=2", "--steps=4", "--checkpoint=latest"),
)
SIDE_BY_SIDE = 2


def soak(ground: Ground, count: int, seed: int) -> Outcome:
    """Runs `count` readers, two at a time, and one trainer, which is asked to stop at the end."""
    outcome, workdir = Outcome("readers"), ground.folder / "run"
    trainer, draw, ended = ground.start(*ground.train(workdir, **KEYS)), random.Random(seed), collections.Counter()
    # There is one checkpoint of each kind, so that every reader finds one.
    if not trainer.wait_for(lambda: (workdir / "checkpoints" / str(KEYS["eval_every"])).exists()):
        outcome.faults.append(Fault(trainer.command, str(seed), f"no checkpoint came: {trainer.end(1).err[-300:]}"))
        return outcome
    turns = itertools.cycle(READERS)
    while outcome.done < count and not ground.late():
        running = []
        for _ in range(min(SIDE_BY_SIDE, count - outcome.done)):
            log = ground.folder / f"calls{outcome.done}"
            watched = ground.watched(workdir, log)
            command = (*next(turns), f"--workdir={workdir}", f"--seed={draw.randrange(1000)}")
            running.append((ground.start(*command, **watched), log))
            outcome.done += 1
        for reader, log in running:
            result = reader.end()
            fault = fault_of(result)
            if written := log.exists() and log.read_text().splitlines():
                fault = f"{len(written)} calls change something in the run, first {written[0]!r}"
            if fault:
                outcome.faults.append(Fault(reader.command, str(seed), fault))
            passed = "passed over" in result.err
            ended[f"status {result.status}" + " after passing over a checkpoint" * passed] += 1
    trainer.process.terminate()
    result = trainer.end()
    if fault := fault_of(result) or (result.status and f"status {result.status}, {last_line(result.err)}"):
        outcome.faults.append(Fault(trainer.command, str(seed), f"the trainer: {fault}"))
    elif left := [path.name for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]:
        outcome.faults.append(Fault(trainer.command, str(seed), f"left behind in checkpoints: {left}"))
    outcome.notes = [
        "readers ended so: " + ", ".join(f"{how} {number}" for how, number in sorted(ended.items())) + ".",
        f"the trainer meanwhile: {last_line(result.out)}.",
    ]
    return outcome
