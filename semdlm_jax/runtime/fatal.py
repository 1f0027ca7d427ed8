"""Copies standard input to standard error; JAX's farewell to a process whose peers are gone becomes one sentence.

Run by `distributed.start` as a program of its own, because JAX aborts the process that it tells so, with its call
stack. Everything else passes as it is.
"""

import contextlib
import os
import re
import select
import signal

SENTENCE = (
    "error: another process of this run has ended or cannot be reached: see what it said, start all of them again"
)
FATAL = re.compile(rb"^F.*Terminating process because the JAX distributed service", re.MULTILINE)
# How it begins, where more of it comes within so many seconds.
OMEN = re.compile(FATAL.pattern + rb"|^E\d+ .*(coordination_service|preemption_sync)", re.MULTILINE)
SECONDS = 2.0


def copy(source: int, target: int) -> None:
    """From one descriptor to the other, to the end of `source`."""
    held, told = b"", False
    while not FATAL.search(held):
        late = held and not select.select([source], [], [], SECONDS)[0]
        text = b"" if late else os.read(source, 1 << 16)
        held += text
        begins = text and OMEN.search(held)
        plain, held = (held[: begins.start()], held[begins.start() :]) if begins else (held, b"")
        _write(target, plain)
        told = told or SENTENCE.encode() in plain
        if not (text or late or begins):
            return
    if not told:
        _write(target, SENTENCE.encode() + b"\n")
    while os.read(source, 1 << 16):  # the stack of the dying process
        pass


def _write(target, text):
    with contextlib.suppress(OSError):  # nobody reads it, or a full disk: the program itself must not notice
        os.write(target, text)


if __name__ == "__main__":
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # it ends when its process does
        signal.signal(signum, signal.SIG_IGN)
    copy(0, 2)
