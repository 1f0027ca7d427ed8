"""Writing files so that they appear whole or not at all, with every failure reported in one sentence."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from semdlm_jax.errors import StorageError, UserError

PathLike = str | os.PathLike
_PARTIAL = re.compile(r"^\..*\.partial-[0-9a-f]{8}$")  # the names of `_hidden`
_FULL = "the disk is full: free space there, or choose another place"
_CAUSES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EISDIR: "this is a directory: give the path of a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EPIPE: "the program that reads there has stopped: start again with one that reads to the end",
}
_FAILURES = errno.ENOSPC, errno.EDQUOT, errno.EIO


@contextlib.contextmanager
def storage_errors(place: PathLike) -> Iterator[None]:
    """Turns an OSError of the block, which writes at `place`, into a UserError of one sentence.

    It is a StorageError if the place was valid and its disk failed.
    """
    try:
        yield
    except OSError as error:
        other = f"cannot be written ({error.strerror or error}): choose another place"
        kind = StorageError if error.errno in _FAILURES else UserError
        raise kind(f"{place}: {_CAUSES.get(error.errno or 0, other)}") from None


@contextlib.contextmanager
def replacing(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """A file to write that replaces `path` at the end of the block.

    Until then, and if the block fails, `path` is unchanged; afterwards its complete new contents are on disk. A link is
    kept and its target is replaced; a file keeps its mode. Devices, pipes and the file that standard output goes to are
    written into instead of replaced.

    Args:
        path: of the file.
        mode: 'w' for text in UTF-8, 'wb' for bytes.

    Raises:
        UserError: the file cannot be written.
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
    """A function that appends text to a file; `path` appears at the end of the block.

    Appended text is on disk when the function returns. Until the end it is in PATH.partial (PATH.partial-2, … if an
    earlier file was left there). A killed process leaves this file with everything that was appended, and so does a
    block that fails after it appended something: its UserError names the file. Links, modes, devices and pipes are
    handled as in `replacing`.
    """
    with storage_errors(path):
        if _stays(path):
            with _open_in_place(path, "wb") as file:
                yield functools.partial(_append, file)
            return
        target, partial, file = _target(path), "", None

        def append(text):
            nonlocal partial, file
            if file is None:  # not earlier: a process that is killed before the first text leaves no file
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
    """UserError unless a file can be written at `path`. Called before long work; changes nothing."""
    with storage_errors(path):
        if not _stays(path):
            partial = _hidden(path)
            with _create(partial, _target(path), "wb"):
                _unlink(partial)
        elif _own_output(path) is None and not os.access(path, os.W_OK):
            raise _error(errno.EACCES)


def check_regular(path: PathLike) -> None:
    """UserError if `path` is a device or a pipe: it may have no end, may block, and can be read only once.

    A missing path or a directory is accepted here; opening it reports the error.
    """
    with contextlib.suppress(OSError, ValueError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path} is a device or a pipe: write what it gives to a file, and give that")


def clear_partials(folder: PathLike) -> None:
    """Removes the files that a killed `replacing` left in a folder. Only for a folder that nobody else writes now."""
    for name in os.listdir(folder):
        if _PARTIAL.search(name):
            _unlink(os.path.join(folder, name))


def same_file(first: PathLike, second: PathLike) -> bool:
    """Whether two paths are the same regular file, or the same place of a file that does not exist yet."""
    with contextlib.suppress(OSError):
        return not _stays(first) and not _stays(second) and os.path.samefile(first, second)
    return os.path.realpath(first) == os.path.realpath(second)


def cache_folder() -> pathlib.Path:
    """What this package keeps for its next start: $XDG_CACHE_HOME or ~/.cache, and `semdlm_jax` below it.

    UserError: there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path("~/.cache").expanduser()
    except RuntimeError:
        raise UserError("this user has no home folder, where files are kept: set HOME or XDG_CACHE_HOME") from None
    return base / "semdlm_jax"


def digest_of(values: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _stays(path):
    """Whether `path` exists and must be written into: it is no regular file, or standard output goes to it."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _own_output(path) is not None
    return False


def _own_output(path):
    """The standard stream that writes to the file at `path`, or None."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or not a file of the system
            if stream and os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return stream
    return None


def _open_in_place(path, mode):
    """Opens a file that must not be replaced; later prints to it continue after what is written here."""
    stream = _own_output(path)
    if stream is None:
        return _open(path, mode)
    stream.flush()
    return _open(os.dup(stream.fileno()), mode)


def _open(file, mode):
    """`open` for bytes or UTF-8 text; lone surrogates, which are not valid text, are written as escapes."""
    return open(file, mode) if "b" in mode else open(file, mode, encoding="utf-8", errors="backslashreplace")


def _target(path):
    """The path of the regular file that is to appear, with all links resolved."""
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise _error(errno.EISDIR)
    if not os.path.isdir(os.path.dirname(target)):
        raise UserError(f"{path}: its directory does not exist: make it first")
    if os.path.lexists(target) and not os.access(target, os.W_OK):  # a rename would not check this
        raise _error(errno.EACCES)
    return target


def _error(code):
    return OSError(code, os.strerror(code))


def _hidden(path):
    """A unique name in the folder of `path`, short even if the name of the file is long."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name[:40]}.partial-{secrets.token_hex(4)}")


def _create(partial, target, mode):
    """Opens a new file with the mode of the file that it will replace, or with the default mode."""
    file = _open(partial, mode.replace("w", "x"))
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
    return file


def _create_visible(target) -> tuple[str, IO]:
    """(name, opened file) of the first of TARGET.partial, TARGET.partial-2, … that does not exist."""
    number = 1
    while True:
        name = f"{target}.partial" + (f"-{number}" if number > 1 else "")
        with contextlib.suppress(FileExistsError):
            return name, _create(name, target, "wb")
        number += 1


def _append(file, text):
    """Writes text to disk. If that fails, a regular file is cut to its former length, so no half line stays in it."""
    regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    before = os.fstat(file.fileno()).st_size
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        while data:  # not through the buffer of `file`, which would write again when the file is closed
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
    """A UserError that also names the file with the part that was written."""
    try:
        with storage_errors(path):
            raise error
    except UserError as told:
        return type(told)(f"{told}; what was written before is in {partial}")
