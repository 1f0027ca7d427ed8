"""Locks between processes: a file that one of them holds, and that the system takes from it when it dies."""

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator


class Held(Exception):
    """Another process holds the lock; the message is what it has written into its file, "" where nothing yet."""


@contextlib.contextmanager
def locked(
    path: str | os.PathLike, note: str = "", wait: Callable[[], None] | None = None
) -> Iterator[Callable[[], bool]]:
    """Holds the lock whose file is `path`, which is there while it is held; what a dead process left is taken over.

    Yields a function that tells whether the file is still there: without it the lock keeps nobody out.

    note: written into the file, for those who find it held. wait: called before waiting for another holder; with None
    Held is raised instead. OSError: `path` cannot be written.
    """
    lock = _acquire(path, wait)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, note.encode(), 0)
        yield functools.partial(_is_at, path, lock)
    finally:
        with contextlib.suppress(OSError):
            if _is_at(path, lock):  # else it is another one's
                os.unlink(path)
        os.close(lock)


def check_free(path: str | os.PathLike) -> None:
    """Raises Held where another process holds the lock now; writes nothing."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        lock = os.open(path, os.O_RDONLY)
        try:
            _try(lock)
        finally:
            os.close(lock)


def _acquire(path, wait):
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                _try(lock)
            except Held:
                if wait is None:
                    raise
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(path, lock):  # whoever held it may have removed the file
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(path, lock):
    """Whether the open file is the one at `path`."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(os.fstat(lock), os.stat(path))
    return False


def _try(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Held(os.pread(lock, 1000, 0).decode(errors="replace")) from None
