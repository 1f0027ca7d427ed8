"""What all parts of the soak test share: the tiny run in a temporary directory, its commands as processes, faults."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.tiny_run import COMPILER, Result, write_corpus
from semdlm_jax.errors import UserError

ROOT = Path(__file__).parents[2]
LIMIT = 300  # seconds after which a command is considered to hang


class Fault(NamedTuple):
    """Something that must not happen. seed: reproduces it."""

    command: str
    seed: str
    what: str


@dataclasses.dataclass
class Outcome:
    """What a part found. done: the number of cases, counted in `unit`. notes: sentences on other numbers."""

    unit: str
    done: int = 0
    faults: list[Fault] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def fault_of(result: Result, allowed: tuple[int, ...] = (0,)) -> str | None:
    """The fault, if a command ended neither with an allowed status nor with one sentence and status 1 or 2."""
    for sign in ("Traceback", "Fatal Python error", "*** Check failure"):
        if sign in result.err or sign in result.out:
            return f"status {result.status}, {last_line(result.err)}"
    if result.status in allowed:
        return None
    if result.status not in (1, 2):
        return f"status {result.status}, {last_line(result.err)}"
    sentences = [line for line in result.err.splitlines() if line.startswith("error: ")]
    told = f"status {result.status} with {len(sentences)} sentences: {result.err[-300:]}"
    return None if len(sentences) == 1 else told


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(nothing said)"])[-1][:200]


class Ground(contextlib.ExitStack):
    """A temporary directory with the prepared data of the tiny run, and its commands, compiled without optimization.
    Processes that still run at its exit are killed.

    folder: the directory. config: the path of the configuration. minutes: after these, no new case is started.
    """

    def __init__(self, folder: Path, minutes: float = math.inf):
        super().__init__()
        self.folder, self._until = folder.resolve(), time.monotonic() + 60 * minutes
        self.config = write_corpus(self.folder)
        compiler = {name.upper(): str(value) for name, value in COMPILER.items()}
        here = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.environment = os.environ | compiler | {"PYTHONPATH": here, "JAX_PLATFORMS": "cpu"}
        self.environment["JAX_COMPILATION_CACHE_DIR"] = str(self.folder / "compiled")
        for module in ("data.prepare", "semantics.build"):
            result = self.run(module, f"--config={self.config}")
            if result.status:
                raise UserError(f"the tiny corpus cannot be prepared: {result.err}")

    def late(self) -> bool:
        """Whether the time for this part is up."""
        return time.monotonic() > self._until

    def train(self, workdir: Path, **keys) -> list[str]:
        """Arguments of a training in that directory, with keys of config.training."""
        return [
            *("train", f"--config={self.config}", f"--workdir={workdir}"),
            *(f"--config.training.{key}={value}" for key, value in keys.items()),
        ]

    def start(self, *arguments, **environment) -> "Running":
        """Starts `python -m semdlm_jax.<arguments>`."""
        running = Running([f"semdlm_jax.{arguments[0]}", *map(str, arguments[1:])], self.environment | environment)
        self.callback(running.process.kill)
        return running

    def run(self, *arguments, **environment) -> Result:
        return self.start(*arguments, **environment).end()

    def together(self, count: int, *arguments) -> list["Running"]:
        """Starts several processes of one run."""
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            address = f"localhost:{probe.getsockname()[1]}"
        shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
        return [self.start(*arguments, **shared, JAX_PROCESS_ID=str(index)) for index in range(count)]

    def watched(self, under: Path, log: Path, at: int = 0, signum: int = signal.SIGKILL) -> dict[str, str]:
        """The environment of a command that logs its file-system calls, and can kill itself at one of them.

        Every call that changes something below `under` is a line of `log`. At call number `at`, counted from 1, the
        command gets a signal; 0: at none.
        """
        names = {"SOAK_UNDER": under.resolve(), "SOAK_LOG": log, "SOAK_AT": at, "SOAK_SIGNAL": int(signum)}
        return {"LD_PRELOAD": str(self._library)} | {name: str(value) for name, value in names.items()}

    @functools.cached_property
    def _library(self):
        library, source = self.folder / "calls.so", Path(__file__).with_name("calls.c")
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            cause = getattr(error, "stderr", None) or error
            raise UserError(f"{source.name} cannot be compiled ({cause}): install a C compiler, cc") from None
        return library


class Running:
    """A running process; its output goes to files, so that it never waits for a reader."""

    def __init__(self, arguments: list[str], environment: dict[str, str]):
        self.command = shlex.join(["python", "-m", *arguments])
        self._out, self._err = (open(os.memfd_create(name), "w+b") for name in ("out", "err"))
        streams = {"stdin": subprocess.DEVNULL, "stdout": self._out, "stderr": self._err}
        self.process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, **streams)

    def end(self, limit: float = LIMIT) -> Result:
        """Waits for its end. If it hangs, it is killed and has the exit status of a killed process."""
        late = False
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
            self.process.kill()
            self.process.wait()
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Result(self.process.returncode, texts[0], texts[1] + f"\nhung for {limit} s" * late)

    def wait_for(self, condition) -> bool:
        """Waits until `condition()` is true. Returns False if the process ends or hangs before that."""
        until = time.monotonic() + LIMIT
        while not condition():
            if self.process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True


class Worker:
    """A process that runs several commands, as `tiny_run.command` does, without starting Python for each."""

    COMMANDS = 200  # of one process, then it is another

    def __init__(self, ground: Ground):
        self._ground, self._process, self._left = ground, None, 0

    def run(self, *arguments) -> Result:
        """Runs a command. If it ends the process, its status is that of the process."""
        if not self._left:
            self.close()
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            command, place = [sys.executable, "-m", "benchmarks.soak.worker"], self._ground.folder
            self._process = subprocess.Popen(command, cwd=place, env=self._ground.environment, **streams)
            self._ground.callback(self._process.kill)
            self._left = self.COMMANDS
        self._left -= 1
        self._process.stdin.write(json.dumps(list(map(str, arguments))) + "\n")
        self._process.stdin.flush()
        late = not select.select([self._process.stdout], [], [], LIMIT)[0]
        if late:
            self._process.kill()
        if line := self._process.stdout.readline():
            return Result(*json.loads(line))
        self._left = 0
        return Result(self._process.wait(), "", f"hung for {LIMIT} s" if late else "the process ended")

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
