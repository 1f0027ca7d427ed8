"""Damaged files of a run, its data and its table: every command must report them or give the same numbers as before."""

import collections
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np

from benchmarks.soak.ground import Fault, Ground, Outcome, Worker, fault_of
from benchmarks.soak.records import end_of
from semdlm_jax.record import CONFIG
from semdlm_jax.semantics.table import TABLE

KEYS = {"steps": 12, "checkpoint_every": 4, "keep_latest": 9}
MORE = KEYS | {"steps": 15}  # the step up to which the damaged run continues
# What is damaged, one after the other: the run, its data, and the table.
TURNS = ("run", "data", "run", "table")


def _replace(path: Path, content: bytes):
    path.write_bytes(content)


def _flip(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    _replace(path, content)


def _directory(path, draw):
    path.unlink()
    path.mkdir()


def _link(path, draw):
    path.unlink()
    path.symlink_to(draw.choice([path.name, "nowhere", os.devnull]))


OTHER_JSON = b"null", b"[1]", b"{}", b'"a"', b"1e999", b"[" * 9999
WAYS = {
    "cut": lambda path, draw: os.truncate(path, draw.randrange(path.stat().st_size)),
    "one bit flipped": _flip,
    "emptied": lambda path, draw: _replace(path, b""),
    "zeros": lambda path, draw: _replace(path, bytes(path.stat().st_size)),
    "bytes after its end": lambda path, draw: _replace(path, path.read_bytes() + draw.randbytes(10)),
    "other bytes": lambda path, draw: _replace(path, draw.randbytes(path.stat().st_size)),
    "other JSON": lambda path, draw: _replace(path, draw.choice(OTHER_JSON)),
    "gone": lambda path, draw: path.unlink(),
    "a directory": _directory,
    "a link": _link,
}
if os.geteuid():  # root may read every file
    WAYS["no permission"] = lambda path, draw: path.chmod(0)


class Base:
    """An undamaged run with its data, and its results: numbers by step, and the state after it has continued."""

    def __init__(self, ground: Ground, worker: Worker):
        self.ground, self.worker, self.data = ground, worker, ground.folder / "data"
        self.workdir = ground.folder / "sound"
        self._must(worker.run(*ground.train(self.workdir, **KEYS)))
        self.numbers = {step: self._number(step) for step in range(KEYS["checkpoint_every"], KEYS["steps"] + 1, 4)}
        on = self.copy("on")
        self._must(worker.run(*ground.train(on, **MORE)))
        self.end = end_of(on)

    def copy(self, name: str) -> Path:
        shutil.rmtree(self.ground.folder / name, ignore_errors=True)
        return shutil.copytree(self.workdir, self.ground.folder / name)

    def _number(self, step):
        """The result of a run whose latest checkpoint is that of `step`."""
        workdir = self.copy("shorter")
        for later in range(step + 1, KEYS["steps"] + 1):
            shutil.rmtree(workdir / "checkpoints" / str(later), ignore_errors=True)
        result, report = evaluate(self, workdir)
        self._must(result)
        return report["sections"]["likelihood"]["details"]["nelbo"]

    def _must(self, result):
        if result.status:
            raise RuntimeError(f"the sound run: {result}")


def evaluate(base, workdir, *more):
    """(Result, its report or None)."""
    output = base.ground.folder / "report.json"
    output.unlink(missing_ok=True)
    arguments = f"--workdir={workdir}", "--checkpoint=latest", "--samples=0", f"--output={output}"
    result = base.worker.run("evaluate", *arguments, *more)
    return result, json.loads(output.read_text()) if output.exists() else None


def soak(ground: Ground, count: int, seed: int) -> Outcome:
    """Damages `count` files, one at a time, and runs every command that reads the file."""
    outcome, worker, ended = Outcome("damaged files"), Worker(ground), collections.Counter()
    base = Base(ground, worker)
    for index in range(count):
        if ground.late():
            break
        name = f"{seed}/{index}"
        draw, what = random.Random(name), TURNS[index % len(TURNS)]
        root = base.copy("damaged")
        if what != "run":
            shutil.rmtree(ground.folder / "moved", ignore_errors=True)
            root = shutil.copytree(base.data, ground.folder / "moved")
        path, way = _drawn(root, what, draw), draw.choice(list(WAYS))
        WAYS[way](path, draw)
        shown = f"{path.relative_to(root)}: {way}"
        for command, fault, how in (_met_run if what == "run" else _met_data)(base, path):
            ended[f"{what}, {command}: {how}"] += 1
            if fault:
                outcome.faults.append(Fault(f"{command}; {what} {shown}", name, fault))
        outcome.done += 1
    worker.close()
    outcome.notes = [f"{how}: {number}." for how, number in sorted(ended.items())]
    outcome.notes += ["ways: " + ", ".join(WAYS) + "."]
    return outcome


def _drawn(root, what, draw):
    """The file to damage. In a run, mostly a file of the latest checkpoint or the record, because these are read."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and (path.name == TABLE) == (what == "table"))
    latest = root / "checkpoints" / str(KEYS["steps"])
    some = [path for path in files if latest in path.parents] if draw.random() < 0.6 else [root / CONFIG]
    files = [path for path in files if path.stat().st_size]
    return draw.choice(some if what == "run" and draw.random() < 0.8 else files)


def _met_run(base, path):
    """(command, fault or None, how it ended) of the commands that read the damaged run."""
    workdir = base.ground.folder / "damaged"
    yield "evaluate", *_judged(base, *evaluate(base, workdir))
    yield "train", *_trained(base, base.worker.run(*base.ground.train(workdir, **MORE)), workdir)


def _met_data(base, path):
    """The same for damaged data."""
    workdir, data = base.ground.folder / "damaged", f"--data_directory={path.parent}"
    yield "evaluate", *_judged(base, *evaluate(base, workdir, data))
    yield "train", *_trained(base, base.worker.run(*base.ground.train(workdir, **MORE), data), workdir)
    if path.name != TABLE:
        arguments = f"--config={base.ground.config}", f"--config.data.directory={path.parent}", "--check"
        result = base.worker.run("data.prepare", *arguments)
        fault = fault_of(result, allowed=())
        if not result.status:
            fault = None if _says_the_same(path, base.data / path.name) else f"{result.out.strip()!r}"
        yield "prepare --check", fault, "refused" if result.status else "as it was"


def _says_the_same(path, original):
    """Whether two texts of JSON differ only in white space."""
    try:
        return json.loads(path.read_bytes()) == json.loads(original.read_bytes())
    except (ValueError, OSError):
        return False


def _judged(base, result, report):
    """(fault, how it ended) of an evaluation."""
    if (fault := fault_of(result)) or result.status:
        return fault, "refused"
    step, nelbo = (
        int(report["sections"]["likelihood"]["protocol"].rpartition("step ")[2]),
        report["sections"]["likelihood"]["details"]["nelbo"],
    )
    latest = step == KEYS["steps"]
    if nelbo != base.numbers[step]:
        return f"NELBO {nelbo} instead of {base.numbers[step]}, and no word", "another number"
    if not latest and "passed over" not in result.err:
        return f"took step {step} without a word", "an earlier checkpoint"
    return None, "the same number" if latest else "an earlier checkpoint, told"


def _trained(base, result, workdir):
    """(fault, how it ended) of a training that continues."""
    if (fault := fault_of(result)) or result.status:
        return fault, "refused"
    step, arrays = end_of(workdir)
    if step != base.end[0] or not all(map(np.array_equal, arrays, base.end[1])):
        return f"the state of step {step} is not that of the sound run", "another state"
    latest = f"from step {KEYS['steps']}\n" in result.out
    return None, "the same state" if latest else "the same state, from an earlier checkpoint"
