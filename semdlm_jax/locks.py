"""Locks between processes, by files. The operating system releases the lock of a process that dies."""

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator


class Held(Exception):
    """Another process holds the lock. The message is the note in the lock's file, '' if it has none yet."""


@contextlib.contextmanager
def locked(
    path: str | os.PathLike, note: str = "", wait: Callable[[], None] | None = None
) -> Iterator[Callable[[], bool]]:
    """Holds a lock during the block. The file of a dead process is taken over.

    Args:
        path: the lock's file, which exists while the lock is held.
        note: written into the file, for others who find the lock held.
        wait: called before waiting for another holder; if None, Held is raised instead.

    Yields:
        A function that returns whether the file still exists; without the file the lock excludes nobody.

    Raises:
        Held: another process holds the lock, and `wait` is None.
        OSError: `path` cannot be written.
    """
    lock = _acquire(path, wait)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, note.encode(), 0)
        yield functools.partial(_is_at, path, lock)
    finally:
        with contextlib.suppress(OSError):
            if _is_at(path, lock):  # otherwise the file belongs to another holder
                os.unlink(path)
        os.close(lock)


def check_free(path: str | os.PathLike) -> None:
    """Raises Held if another process holds the lock now; writes nothing."""
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
            if _is_at(path, lock):  # the former holder may have removed the file
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
