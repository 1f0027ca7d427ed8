"""Standard output and error that never stop a program: work continues if its messages cannot be written."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from semdlm_jax.storage import storage_errors


class Sturdy:
    """A standard stream that ignores failures of writing.

    Attributes:
        failure: the first OSError, after which nothing is written; None before.
    """

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
            # The text left in the buffer would fail again when Python ends.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextlib.contextmanager
def sturdy() -> Iterator[None]:
    """Inside the block, failures of standard output and error raise nothing.

    Characters that the encoding of the terminal lacks are written as escapes.
    """
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
    """Whether the reader of standard output has closed it, as `| head` does. Known only inside `sturdy`."""
    failure = getattr(sys.stdout, "failure", None)
    return failure is not None and failure.errno == errno.EPIPE


def check_shown() -> None:
    """UserError if standard output could not be written for another reason, e.g. a full disk."""
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None and not nobody_reads():
        with storage_errors("standard output"):
            raise failure


def _fill_closed():
    """Opens closed standard descriptors; otherwise the next opened file would receive what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
