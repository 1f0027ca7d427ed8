"""Only one training at a time in a work directory: two would overwrite each other's checkpoints and metrics. All
processes of one training must see the same directory."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from semdlm_jax import locks
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.runtime.processes import check_everywhere, check_on_process_0, on_process_0
from semdlm_jax.storage import clear_partials, storage_errors

NAME = ".training.lock"
# Seconds: a client of a network file system may believe for a minute that a new folder is not there.
LONGEST = 90.0


@contextlib.contextmanager
def training_lock(workdir: str | Path) -> Iterator[Callable[[], None]]:
    """Holds the lock for training in `workdir`, which is created if it is missing.

    Process 0 of a run holds the lock for all processes, and removes files that a killed process left half written.

    Yields:
        A function that all processes call before they save. It raises StorageError if the directory, or the lock in it,
        was removed in the meantime.

    Raises:
        UserError: on all processes, if another run holds the lock (the message names its host and process id), or if
            the directory cannot be written.
    """
    with contextlib.ExitStack() as stack:

        def is_there() -> bool:  # process 0 replaces it once it holds the lock
            return True

        def take():
            nonlocal is_there
            with storage_errors(workdir), _refusing(workdir):
                Path(workdir).mkdir(parents=True, exist_ok=True)
                holder = f"process {os.getpid()} on {socket.gethostname()}"
                is_there = stack.enter_context(locks.locked(Path(workdir) / NAME, holder))
                clear_partials(workdir)

        def look():
            if not is_there():
                raise StorageError(
                    f"{workdir} was removed or moved, or {NAME} in it, while this run trained there, so nothing more "
                    "is saved: put it back and give the same command again, or begin in another work directory"
                )

        check_on_process_0(take)
        yield lambda: check_on_process_0(look)


def check_free(workdir: str | Path) -> None:
    """UserError if another run trains in `workdir` now. Called before long work; writes nothing."""

    def look():
        # Other problems of the directory are reported when it is written.
        with contextlib.suppress(OSError), _refusing(workdir):
            locks.check_free(Path(workdir) / NAME)

    check_on_process_0(look)


@contextlib.contextmanager
def _refusing(workdir):
    """Turns Held into a UserError."""
    try:
        yield
    except locks.Held as held:
        raise UserError(
            f"{workdir} is being trained by {str(held) or 'another process'}: "
            "wait for it or stop it, or give another work directory"
        ) from None


def check_shared(workdir: str | Path) -> None:
    """UserError, on all processes, unless each sees what process 0 writes in `workdir`, which exists.

    Else each process would write its part of a checkpoint on a disk of its own, and none could be read again.
    """
    if jax.process_count() == 1:
        return
    probe = Path(workdir) / on_process_0(lambda: f".shared-{secrets.token_hex(8)}")

    def write():
        with storage_errors(probe):
            probe.touch()

    def look():
        end = time.monotonic() + LONGEST
        while not probe.exists():
            if time.monotonic() > end:
                raise UserError(
                    f"{workdir} does not show what process 0 writes there: give a folder of a file system that all "
                    "processes share, or an address on a store, such as gs://bucket/run"
                )
            time.sleep(0.1)

    check_on_process_0(write)
    try:
        check_everywhere(look)
    finally:
        if jax.process_index() == 0:
            probe.unlink(missing_ok=True)
