"""A store in this process's memory, and a training that writes there; and one that several processes see."""

import itertools

import fsspec

from semdlm_jax import remote

ADDRESSES = (f"memory://bucket-{number}/run" for number in itertools.count())
MEMORY = "fsspec.implementations.memory.MemoryFileSystem"
# A program on a machine with caches of its own, for each process of a run. The store is a folder, in place of memory://.
MACHINE = """
import os, runpy, sys, time

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

_, machine, store, pause, program, *sys.argv[1:] = sys.argv
os.environ["XDG_CACHE_HOME"] = f"{machine}-{os.environ.get('JAX_PROCESS_ID', '0')}"

class Folder(DirFileSystem):
    cachable = False

    def __init__(self):
        super().__init__(store, LocalFileSystem(auto_mkdir=True))

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("memory://").strip("/")

fsspec.register_implementation("memory", Folder, clobber=True)

from semdlm_jax.runtime.progress import Progress

update = Progress.update

def slowly(*arguments, **shown):
    time.sleep(float(pause))  # so that a request comes between two steps
    update(*arguments, **shown)

Progress.update = slowly
runpy.run_module(f"semdlm_jax.{program}", run_name="__main__")
"""
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
