"""Standard output and error that never stop a program: work is not lost because nobody can read what it says."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from semdlm_jax.storage import storage_errors


class Sturdy:
    """A standard stream whose writer goes on when it fails. failure: the OSError, after which nothing is written."""

    def __init__(self, stream):
        self._stream, self.failure = stream, None

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action):
        if self.failure is not None:
            return
        try:
            action()
        except OSError as error:
            self.failure = error
            # What waits in its buffer would fail once more when Python ends.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextlib.contextmanager
def sturdy() -> Iterator[None]:
    """Inside, whatever becomes of standard output and error raises nothing, and what a terminal's encoding lacks is
    written as escapes."""
    _fill_closed()
    former = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        for stream in former:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        sys.stdout, sys.stderr = (Sturdy(stream or nowhere) for stream in former)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = former


def nobody_reads() -> bool:
    """Whether the reader of standard output has gone, as `| head` does. Only inside `sturdy` it is known."""
    failure = getattr(sys.stdout, "failure", None)
    return failure is not None and failure.errno == errno.EPIPE


def check_shown() -> None:
    """UserError where standard output could not be written though somebody reads it, e.g. in a file on a full disk."""
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None and not nobody_reads():
        with storage_errors("standard output"):
            raise failure


def _fill_closed():
    """Opens the standard descriptors that are closed: else the next file would get what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
