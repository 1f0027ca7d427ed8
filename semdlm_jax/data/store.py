"""Writing large arrays in pieces, and directories that appear complete or not at all."""

import contextlib
import os
import pathlib
import shutil

import numpy as np

from semdlm_jax import locks

_HEADER = 128  # bytes: what numpy writes for one axis, however long


class ArrayWriter:
    """An .npy file of one axis that grows: the bytes of `np.save`, without its array in memory."""

    def __init__(self, path, dtype):
        self.count, self._dtype = 0, np.dtype(dtype)
        self._file = open(path, "wb")
        self._file.write(bytes(_HEADER))

    def append(self, values):
        """values: [N] of the file's dtype."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self.count += len(values)

    def close(self):
        """Completes the file: before, it is none."""
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.count,)}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, description)
        assert self._file.tell() == _HEADER
        self.abandon()

    def abandon(self):
        """Closes the file as it is."""
        if not self._file.closed:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())


@contextlib.contextmanager
def locked(directory, progress=lambda line: None):
    """Holds a lock for making a directory, among all processes of this machine. Waits for it, and reports that."""
    directory = pathlib.Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(
        directory.with_name(f".{directory.name}.lock"),
        wait=lambda: progress(f"another process is preparing {directory}: waiting for it to finish"),
    ):
        yield


@contextlib.contextmanager
def appearing(directory):
    """A directory to fill, given its name when all is done; removed when something fails. Under `locked`.

    What a killed process left of an earlier attempt is removed first.
    """
    directory = pathlib.Path(directory)
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        os.rename(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
