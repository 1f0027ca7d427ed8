"""Folders on object stores, such as gs://BUCKET/RUN, by copies on this machine.

Programs lock files, rename them and append to them, and map tokens into memory, which no store can do. So what is read
is copied here first (`local`), and a training works in a folder here whose files are written to the store while it
trains (`working`).
"""

import contextlib
import os
import pathlib
import socket
import threading
from collections.abc import Iterator

from semdlm_jax import locks
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.options import ADDRESS, ONE_SLASH
from semdlm_jax.remote.copies import Copy, Taken, tell
from semdlm_jax.remote.store import Store
from semdlm_jax.storage import PathLike

EVERY = 30.0  # seconds between two looks at what has changed


def is_address(path: PathLike) -> bool:
    """Whether it is an address. UserError: it was one before pathlib took a slash from it."""
    if ONE_SLASH.match(text := os.fspath(path)):
        raise UserError(f"{text} is an address with one slash, as pathlib makes it: give it as text, with two")
    return ADDRESS.match(text) is not None


def local(
    path: PathLike, again: bool = False, leave_out: tuple[str, ...] = (), may_be_empty: bool = False
) -> pathlib.Path:
    """`path` itself; of an address, the folder of its copy here, brought up to date once in a process.

    Args:
        path: a path, or the address of a folder.
        again: also if it was copied before.
        leave_out: files and folders whose names contain one of these are not copied.
        may_be_empty: where nothing is there, the folder is empty.

    Raises:
        UserError: nothing is there, it cannot be read, or the package for this kind of store is missing.
    """
    if not is_address(path):
        return pathlib.Path(path)
    store = Store(path)
    if again or (store.address, leave_out) not in _COPIED:
        copy = Copy(store, "copies", leave_out)
        with locks.locked(copy.lock, wait=lambda: tell(f"another program copies {store.address}: waiting for it")):
            if not copy.fetch(clear=may_be_empty) and not may_be_empty:
                raise UserError(f"{store.address}: nothing is there: give the address of a folder with files")
        _COPIED[store.address, leave_out] = copy.folder
        _ADDRESSES[copy.folder] = store.address
    return _COPIED[store.address, leave_out]


_COPIED: dict[tuple[str, tuple[str, ...]], pathlib.Path] = {}
_ADDRESSES: dict[pathlib.Path, str] = {}  # also of folders that are trained in


def origin(path: PathLike) -> str:
    """What a report calls `path`: the address that it was copied from, or itself."""
    return _ADDRESSES.get(pathlib.Path(path), os.fspath(path))


def is_copy(path: PathLike) -> bool:
    """Whether the folder `path` was copied here from a store."""
    return pathlib.Path(path) in _ADDRESSES


def told(error: UserError) -> str:
    """The message of an error, with the addresses in the place of the copies, unless it is about a disk."""
    text = str(error)
    for folder, address in _ADDRESSES.items() if not isinstance(error, StorageError) else ():
        text = text.replace(os.fspath(folder), address)
    return text


def check_here(path: PathLike, name: str) -> None:
    """UserError for an address where only a folder of this machine can be written. name: of the key or flag."""
    if is_address(path):
        raise UserError(
            f"{name} = {os.fspath(path)!r} is an address, and this program writes on this machine alone: give a path, "
            "and copy the folder to the store afterwards"
        )


@contextlib.contextmanager
def working(
    path: PathLike, *, leave_out: tuple[str, ...] = (), every: float = EVERY, at_once: bool = False
) -> Iterator[pathlib.Path]:
    """A folder of this machine to train in: `path` itself, or for an address a copy that is written there.

    A run that is there is continued, also one that another machine began. Every few seconds, and at the end of the
    block, the files that have changed are written to the store: those of a checkpoint first, its seal last, so that a
    checkpoint that is not complete there is recognized as damaged. If another training begins with the same address,
    this one writes nothing more there, unless the other is refused before it writes anything.

    Args:
        path: a path, or the address of a folder.
        leave_out: files and folders whose names contain one of these are not written to the store.
        every: seconds between two looks at what has changed.
        at_once: what a former start left only here is written before the block begins: others will copy it from there.

    Raises:
        UserError: the store cannot be used, or a training of this machine holds the copy.
        StorageError: at the end of the block, files could not be written, or another training began there; the message
            says where they are.
    """
    if not is_address(path):
        yield pathlib.Path(path)
        return
    copy = Copy(Store(path), "runs", leave_out)
    with contextlib.ExitStack() as stack:
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        try:
            stack.enter_context(locks.locked(copy.lock, holder))
        except locks.Held as held:
            raise UserError(f"{copy.store.address} is being trained here by {held}: wait for it or stop it") from None
        copy.take_over(holder)
        tell(f"{copy.store.address}: trained in {copy.folder}, and written to the store every {every:g} s")
        _ADDRESSES[copy.folder] = copy.store.address
        with _pushing(copy, every):
            if at_once:
                copy.push()
            yield copy.folder


@contextlib.contextmanager
def _pushing(copy, every):
    """Writes what changes to the store, during the block and at its end."""
    ended = threading.Event()

    def loop():
        told = ""
        while not ended.wait(every):
            try:
                copy.push()
                told = ""
            except UserError as error:  # the network may come back, and another training may give way
                if str(error) != told:
                    tell(f"note: {error}; tried again every {every:g} s")
                told = str(error)

    thread = threading.Thread(target=loop, name="to the store", daemon=True)
    thread.start()

    def finish():
        ended.set()
        try:
            thread.join()
            copy.push()
        except Taken:
            raise
        except StorageError as error:
            raise StorageError(f"{error}; {_left(copy)}") from None
        except KeyboardInterrupt:
            tell(f"warning: stopped while files were written to {copy.store.address}; {_left(copy)}")
            raise

    try:
        yield
    except BaseException:
        try:
            finish()
            copy.give_back()
        except UserError as error:
            tell(f"warning: {error}")  # beside the error that ends the block
        raise
    finish()


def _left(copy):
    return f"what is not there yet is in {copy.folder}, and the same command on this machine writes it"
