"""One training a work directory: two would write over each other's checkpoints and metrics."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from semdlm_jax import locks
from semdlm_jax.errors import UserError
from semdlm_jax.runtime.processes import on_process_0
from semdlm_jax.storage import clear_partials, storage_errors

NAME = ".training.lock"


@contextlib.contextmanager
def training_lock(workdir: str | Path) -> Iterator[None]:
    """Holds the right to train in `workdir`, which is made where it is missing.

    Process 0 of a run holds it for all, and clears away what a killed one left half written. UserError on all of them where another run does, with its host and process
    id; or where the directory cannot be written.
    """
    with contextlib.ExitStack() as stack:

        def take():
            try:
                with storage_errors(workdir):
                    Path(workdir).mkdir(parents=True, exist_ok=True)
                    holder = f"process {os.getpid()} on {socket.gethostname()}"
                    stack.enter_context(locks.locked(Path(workdir) / NAME, holder))
                    clear_partials(workdir)
            except locks.Held as held:
                return _refusal(workdir, held)
            except UserError as error:
                return str(error)

        if problem := on_process_0(take):
            raise UserError(problem)
        yield


def check_free(workdir: str | Path) -> None:
    """UserError where another run trains in `workdir` now: asked before long work. Nothing is written."""

    def look():
        try:
            locks.check_free(Path(workdir) / NAME)
        except locks.Held as held:
            return _refusal(workdir, held)
        except OSError:  # told when it is to be written
            pass

    if problem := on_process_0(look):
        raise UserError(problem)


def _refusal(workdir, held):
    return (
        f"{workdir} is being trained by {str(held) or 'another process'}: "
        "wait for it or stop it, or give another work directory"
    )
