"""Folders on object stores, such as gs://BUCKET/RUN, by copies on this machine.

Programs lock files, rename them and append to them, and map tokens into memory, which no store can do. So what is read
is copied here first (`local`), and a training works in a folder here whose files are written to the store while it
trains (`working`).
"""

import contextlib
import os
import pathlib
import socket
import sys
import threading
from collections.abc import Iterator

from semdlm_jax import locks
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.options import ADDRESS
from semdlm_jax.remote.copies import Copy, tell
from semdlm_jax.remote.store import Store
from semdlm_jax.storage import PathLike

EVERY = 30.0  # seconds between two looks at what has changed


def is_address(path: PathLike) -> bool:
    return ADDRESS.match(os.fspath(path)) is not None


def local(path: PathLike) -> pathlib.Path:
    """`path` itself; of an address, the folder of its copy here, brought up to date once in a process.

    Raises:
        UserError: nothing is there, it cannot be read, or the package for this kind of store is missing.
    """
    if not is_address(path):
        return pathlib.Path(path)
    store = Store(path)
    if store.address not in _COPIED:
        copy = Copy(store, "copies")
        with locks.locked(copy.lock, wait=lambda: tell(f"another program copies {store.address}: waiting for it")):
            if not copy.fetch():
                raise UserError(f"{store.address}: nothing is there: give the address of a folder with files")
        _COPIED[store.address] = copy.folder
    return _COPIED[store.address]


_COPIED: dict[str, pathlib.Path] = {}


def origin(path: PathLike) -> str:
    """What a report calls `path`: the address that it was copied from, or itself."""
    return next((address for address, folder in _COPIED.items() if folder == pathlib.Path(path)), os.fspath(path))


def check_here(path: PathLike, name: str) -> None:
    """UserError for an address where only a folder of this machine can be written. name: of the key or flag."""
    if is_address(path):
        raise UserError(
            f"{name} = {os.fspath(path)!r} is an address, and this program writes on this machine alone: give a path, "
            "and copy the folder to the store afterwards"
        )


@contextlib.contextmanager
def working(path: PathLike, *, leave_out: tuple[str, ...] = (), every: float = EVERY) -> Iterator[pathlib.Path]:
    """A folder of this machine to train in: `path` itself, or for an address a copy that is written there.

    A run that is there is continued, also one that another machine began. Every few seconds, and at the end of the
    block, the files that have changed are written to the store: those of a checkpoint first, its seal last, so that a
    checkpoint that is not complete there is recognized as damaged. If another training begins with the same address,
    this one writes nothing more there.

    Args:
        path: a path, or the address of a folder.
        leave_out: files and folders whose names contain one of these are not written to the store.
        every: seconds between two looks at what has changed.

    Raises:
        UserError: the store cannot be used, a training of this machine holds the copy, or another one began there.
        StorageError: at the end of the block, files could not be written; the message says where they are.
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
        with _pushing(copy, every):
            yield copy.folder


@contextlib.contextmanager
def _pushing(copy, every):
    """Writes what changes to the store, during the block and at its end."""
    ended, lost = threading.Event(), []

    def loop():
        while not lost and not ended.wait(every):
            try:
                copy.push()
            except StorageError as error:  # the network may come back
                tell(f"note: {error}; tried again in {every:g} s")
            except UserError as error:
                lost.append(error)
                tell(f"warning: {error}")

    thread = threading.Thread(target=loop, name="to the store", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        failed = sys.exc_info()[1] is not None
        try:
            if lost:
                raise lost[0]
            copy.push()
        except UserError as error:
            if not failed:
                raise
            tell(f"warning: {error}")  # beside the error that ends the block
