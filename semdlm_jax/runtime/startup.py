"""What a program does about signals before its work has begun. Imports nothing that takes time."""

import contextlib
import os
import signal

TOLD = b"stopped on request: nothing was under way that had to be saved\n"
STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}  # SIGINT's is what shells expect, so that a script stops, too


def leave_on_request() -> None:
    """From now on SIGTERM and SIGINT end the program at once with one line; `GracefulStop` takes over for its time.

    Only in the main thread. SIGTERM's exit status is 0: whoever sent it got what was asked for.
    """
    for signum in STATUS:
        signal.signal(signum, _leave)


def _leave(signum, frame):
    del frame
    with contextlib.suppress(OSError):  # by descriptor: the signal may have come while Python's streams are in use
        os.write(2, TOLD)
    os._exit(STATUS[signum])  # an exception raised here would be lost, or crash, inside an import
