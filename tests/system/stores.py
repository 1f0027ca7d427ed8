"""A store in this process's memory, and a training that writes there."""

import itertools

import fsspec

from semdlm_jax import remote

ADDRESSES = (f"memory://bucket-{number}/run" for number in itertools.count())
MEMORY = "fsspec.implementations.memory.MemoryFileSystem"
NEVER = 1e6  # seconds between two looks: only the end of the block writes


def held(address):
    """{name: bytes} of what a store has, without the note on who writes there."""
    files, root = fsspec.core.url_to_fs(address)
    found = {name.removeprefix(f"{root}/"): files.cat_file(name) for name in files.find(root)}
    found.pop(".training.owner", None)
    return found


def put(address, **contents):
    files, root = fsspec.core.url_to_fs(address)
    for name, data in contents.items():
        files.pipe_file(f"{root}/{name}", data)


def below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def work(address, *writes, every=NEVER):
    """A training that writes files, {name: bytes, or None to delete it}, one after the other."""
    with remote.working(address, every=every, leave_out=(".tmp",)) as folder:
        for name, data in writes:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if data is None else path.write_bytes(data)
    return folder
