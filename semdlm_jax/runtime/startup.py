"""What a program does about signals before its work has begun. Imports nothing that takes time."""

import contextlib
import os
import signal
import sys

TOLD = b"stopped on request: nothing was under way that had to be saved\n"
STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}  # SIGINT's is what shells expect, so that a script stops, too
_former = {}


def is_program(package: str) -> bool:
    """For a package's __init__: whether `python -m` is about to run a module of it, whose imports take seconds.

    Not where someone imports the package into a program of their own: what is theirs, as signals, is left alone.
    """
    if sys.argv[:1] != ["-m"]:  # which it is as long as Python looks for the module
        return False
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return module.partition(".")[0] == package


def is_running(package: str) -> bool:
    """Whether this process is `python -m` of a module of the package, and ends with it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] == package


def leave_on_request() -> None:
    """From now on SIGTERM and SIGINT end the program at once with one line; `GracefulStop` takes over for its time.

    Only in the main thread. SIGTERM's exit status is 0: whoever sent it got what was asked for.
    """
    for signum in STATUS:
        handler = signal.signal(signum, _leave)
        _former.setdefault(signum, handler)


def restore_handlers() -> None:
    """Undoes `leave_on_request`: work begins that has something to clear away when it is interrupted."""
    while _former:
        signal.signal(*_former.popitem())


def _leave(signum, frame):
    del frame
    with contextlib.suppress(OSError):  # by descriptor: the signal may have come while Python's streams are in use
        os.write(2, TOLD)
    os._exit(STATUS[signum])  # an exception raised here would be lost, or crash, inside an import
