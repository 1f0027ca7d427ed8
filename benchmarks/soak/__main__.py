"""Soak test: does a run survive kills, damaged files and bad commands? All events are drawn from a seed and happen to a
tiny run in a temporary directory. To be run by hand: it takes an hour on two cores.

    python -m benchmarks.soak --which=kills,processes,readers,commands,damage --output=runs/soak.md

kills: trainings are killed at random file-system calls, and must end with the same bits as an uninterrupted run.
processes: two processes train together; one or both are killed or asked to stop. readers: evaluate and generate run
while a trainer constantly deletes checkpoints. commands: bad command lines. damage: damaged files of a run and of its
data. Needs Linux and the C compiler cc.
"""

import math
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time

from absl import flags

from benchmarks.soak import commands, damage, kills, processes, readers
from benchmarks.soak.ground import Ground, Outcome
from semdlm_jax import cli
from semdlm_jax.errors import UserError, choose

# The parts by name: the function that runs, and the number of cases without --count.
PARTS = {
    "kills": (kills.soak, 100),
    "processes": (processes.soak, 8),
    "readers": (readers.soak, 30),
    "commands": (commands.soak, 2000),
    "damage": (damage.soak, 100),
}


def verdict(name: str, outcome: Outcome, seconds: float) -> str:
    """One line about a part."""
    fell = f"{len(outcome.faults)} FAILED" if outcome.faults else "all held"
    return f"{name}: {outcome.done} {outcome.unit}, {fell}, {seconds:.0f} s"


def report(found: dict[str, tuple[Outcome, float]], seed: int) -> str:
    """Markdown: a row for each part, its notes, and a row for each fault."""
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [f"Seed {seed}; {machine}.", "", "| part | done | failed | seconds |", "| --- | ---: | ---: | ---: |"]
    for name, (outcome, seconds) in found.items():
        lines.append(f"| {name} | {outcome.done} {outcome.unit} | {len(outcome.faults)} | {seconds:.0f} |")
    lines += ["", *(f"* {name}: {note}" for name, (outcome, _) in found.items() for note in outcome.notes)]
    faults = [(name, fault) for name, (outcome, _) in found.items() for fault in outcome.faults]
    if faults:
        lines += ["", "| part | command | seed | what went wrong |", "| --- | --- | --- | --- |"]
    for name, fault in faults:
        cells = (" ".join(cell.replace("|", "\\|").split()) for cell in (f"`{fault.command}`", fault.seed, fault.what))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options):
    for name in options.which:
        choose("part", name, PARTS)
    cli.check_output(options.output)
    if sys.platform != "linux":
        raise UserError(f"file-system calls can be watched on Linux only, not {sys.platform}: run it there")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # processes that still run end, too
    found = {}
    for name in options.which:
        soak, count = PARTS[name]
        since = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="soak_", ignore_cleanup_errors=True) as folder,
            Ground(pathlib.Path(folder), options.minutes) as ground,
        ):
            outcome = soak(ground, options.count or count, options.seed)
        found[name] = outcome, time.monotonic() - since
        print(verdict(name, *found[name]), flush=True)
        text = report(found, options.seed)
        if options.output:
            pathlib.Path(options.output).write_text(text)
    print(text)
    if any(outcome.faults for outcome, _ in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    flags.DEFINE_list("which", list(PARTS), "Parts, of " + ", ".join(PARTS) + ".")
    flags.DEFINE_integer(
        "count", None, "How many cases of each part. Default: a different number for each part.", lower_bound=1
    )
    flags.DEFINE_float("minutes", math.inf, "After which a part begins nothing more.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", lower_bound=0)
    flags.DEFINE_string("output", None, "Markdown file for the report, written after every part.")
    cli.run(lambda: main(flags.FLAGS))
