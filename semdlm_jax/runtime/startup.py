"""How a program handles signals before its work has begun. This module imports nothing that takes time."""

import contextlib
import os
import signal
import sys

TOLD = b"stopped on request: nothing was under way that had to be saved\n"
STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}  # 130 is what shells expect after SIGINT, so that a script stops, too
_former = {}


def program_module() -> str:
    """The module that `python -m` is about to run, while its package is imported; '' at any other time."""
    if sys.argv[:1] != ["-m"]:  # as it is only while Python looks for the module
        return ""
    return sys.orig_argv[-len(sys.argv)].removeprefix("-m")


def is_program(package: str) -> bool:
    """Whether `python -m` is about to run a module of this package: asked in the package's __init__.

    False if another program imports the package: the signal handlers of that program are not touched.
    """
    return program_module().partition(".")[0] == package


def is_running(package: str) -> bool:
    """Whether the main program of this process is `python -m` of a module of this package."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] == package


def leave_on_request(status: int = 0) -> None:
    """From now on SIGTERM and SIGINT end the program at once with one line, except inside `GracefulStop`.

    To be called in the main thread.

    Args:
        status: after SIGTERM. 0 says that the request was fulfilled.
    """
    STATUS[signal.SIGTERM] = status
    for signum in reversed(STATUS):  # SIGTERM last: who sees its handler may send either
        handler = signal.signal(signum, _leave)
        _former.setdefault(signum, handler)


def restore_handlers() -> None:
    """Undoes `leave_on_request`. Called before work that must clean up after itself if it is interrupted."""
    while _former:
        signal.signal(*_former.popitem())


def _leave(signum, frame):
    del frame
    with contextlib.suppress(OSError):  # by descriptor: Python's streams may be in use when the signal comes
        os.write(2, TOLD)
    os._exit(STATUS[signum])  # an exception raised here, inside an import, would be lost or would crash
