"""Files that appear whole or not at all, and every failure to write told in one sentence."""

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from typing import IO

from semdlm_jax.errors import StorageError, UserError

PathLike = str | os.PathLike
_PARTIAL = re.compile(r"^\..*\.partial-[0-9a-f]{8}$")  # the names of `_hidden`
_FULL = "the disk is full: free space there, or choose another place"
_CAUSES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EISDIR: "this is a directory: give the path of a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EPIPE: "whoever reads there has stopped: start again with a reader that takes all",
}
_FAILURES = errno.ENOSPC, errno.EDQUOT, errno.EIO


@contextlib.contextmanager
def storage_errors(place: PathLike) -> Iterator[None]:
    """Makes an OSError of the block, which writes at `place`, a UserError of one sentence; a StorageError where the
    place was a good one and its disk failed."""
    try:
        yield
    except OSError as error:
        other = f"cannot be written ({error.strerror or error}): choose another place"
        kind = StorageError if error.errno in _FAILURES else UserError
        raise kind(f"{place}: {_CAUSES.get(error.errno or 0, other)}") from None


@contextlib.contextmanager
def replacing(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """A file to write, "w" for text (UTF-8) or "wb", that takes the place of `path` when the block is done.

    Before, and where the block fails, `path` is as it was; it has its whole new contents on disk after. A link stays
    and what it points to is replaced; a file keeps its mode. Devices, pipes and the file that standard output goes to
    are never replaced: they are written into. UserError: it cannot be written, whatever the reason.
    """
    with storage_errors(path):
        if _stays(path):
            with _open_in_place(path, mode) as file:
                yield file
            return
        target, partial = _target(path), _hidden(path)
        try:
            with _create(partial, target, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            _unlink(partial)


@contextlib.contextmanager
def growing(path: PathLike) -> Iterator[Callable[[str], None]]:
    """A function that appends text, on disk when it returns; the whole is at `path` when the block is done.

    Before, it grows in PATH.partial (PATH.partial-2, … where an earlier one was left), which a killed process leaves
    with all that was appended. So does a block that fails, unless nothing was appended; its UserError says where.
    What `replacing` says of links, modes, devices and pipes holds here too.
    """
    with storage_errors(path):
        if _stays(path):
            with _open_in_place(path, "wb") as file:
                yield functools.partial(_append, file)
            return
        target, partial, file = _target(path), "", None

        def append(text):
            nonlocal partial, file
            if file is None:  # not before: one that is killed while it has nothing leaves nothing
                partial, file = _create_visible(target)
            _append(file, text)

        try:
            yield append
            append("")
            os.replace(partial, target)
        except BaseException as error:
            kept = partial and os.path.getsize(partial) > 0
            if partial and not kept:
                _unlink(partial)
            if kept and isinstance(error, (UserError, OSError)):
                raise _with_place(error, path, partial) from None
            raise
        finally:
            if file is not None:
                file.close()


def write_text(path: PathLike, text: str) -> None:
    """Replaces the contents of `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(text)


def check_writable(path: PathLike) -> None:
    """UserError unless a file can be written at `path`: asked before long work. Leaves everything as it was."""
    with storage_errors(path):
        if not _stays(path):
            partial = _hidden(path)
            with _create(partial, _target(path), "wb"):
                _unlink(partial)
        elif _own_output(path) is None and not os.access(path, os.W_OK):
            raise _error(errno.EACCES)


def check_regular(path: PathLike) -> None:
    """UserError where a device or a pipe is at `path`: it may have no end, hangs where nobody writes, and is read once.
    What is missing or a directory is left to whoever opens it."""
    with contextlib.suppress(OSError, ValueError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path} is a device or a pipe: write what it gives to a file, and give that")


def clear_partials(folder: PathLike) -> None:
    """Removes what a killed `replacing` left in a folder. Only where nobody else writes now."""
    for name in os.listdir(folder):
        if _PARTIAL.search(name):
            _unlink(os.path.join(folder, name))


def same_file(first: PathLike, second: PathLike) -> bool:
    """Whether writing one would change the other: one regular file, or one place where none is yet."""
    with contextlib.suppress(OSError):
        return not _stays(first) and not _stays(second) and os.path.samefile(first, second)
    return os.path.realpath(first) == os.path.realpath(second)


def _stays(path):
    """Whether `path` is there and is to be written into: no regular file, or the one that is being printed to."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _own_output(path) is not None
    return False


def _own_output(path):
    """The standard stream that writes to the file at `path`, or None."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none of the system's
            if stream and os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return stream
    return None


def _open_in_place(path, mode):
    """Opens what stays as it is; what is printed there goes on from where this ends."""
    stream = _own_output(path)
    if stream is None:
        return _open(path, mode)
    stream.flush()
    return _open(os.dup(stream.fileno()), mode)


def _open(file, mode):
    """`open`, for bytes or for UTF-8 text; half a surrogate pair, which is no text, is written as its escape."""
    return open(file, mode) if "b" in mode else open(file, mode, encoding="utf-8", errors="backslashreplace")


def _target(path):
    """The regular file that is to appear, behind all links."""
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise _error(errno.EISDIR)
    if not os.path.isdir(os.path.dirname(target)):
        raise UserError(f"{path}: its directory does not exist: make it first")
    if os.path.lexists(target) and not os.access(target, os.W_OK):  # a rename would not ask
        raise _error(errno.EACCES)
    return target


def _error(code):
    return OSError(code, os.strerror(code))


def _hidden(path):
    """A name beside the file at `path` that nobody else uses, short enough whatever the file's own."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name[:40]}.partial-{secrets.token_hex(4)}")


def _create(partial, target, mode):
    """Opens a new file with the mode of the one that it will replace, or what `open` gives a new one."""
    file = _open(partial, mode.replace("w", "x"))
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
    return file


def _create_visible(target) -> tuple[str, IO]:
    """(name, opened file) of the first of TARGET.partial, TARGET.partial-2, … that nobody has taken."""
    number = 1
    while True:
        name = f"{target}.partial" + (f"-{number}" if number > 1 else "")
        with contextlib.suppress(FileExistsError):
            return name, _create(name, target, "wb")
        number += 1


def _append(file, text):
    """Brings text to disk. Where that fails, a regular file is cut to what it was: no half line stays in it."""
    regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    before = os.fstat(file.fileno()).st_size
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        while data:  # not through the buffer of `file`, which would try again when it is closed
            data = data[os.write(file.fileno(), data) :]
        if regular:
            os.fsync(file.fileno())
    except OSError:
        if regular:
            os.ftruncate(file.fileno(), before)
        raise


def _unlink(path):
    with contextlib.suppress(OSError):
        os.unlink(path)


def _with_place(error, path, partial):
    """A UserError that also says where the part is that was written."""
    try:
        with storage_errors(path):
            raise error
    except UserError as told:
        return type(told)(f"{told}; what was written before is in {partial}")
