"""A folder on an object store, by fsspec: whole files that are listed, read, written and removed."""

import contextlib
import errno
import hashlib
import os
import pathlib

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.extras import require
from semdlm_jax.options import STORES, path_problem
from semdlm_jax.storage import PathLike, replacing, storage_errors

FULL = errno.ENOSPC, errno.EDQUOT


class Missing(StorageError):
    """There is no such file on the store, or not any more."""


class Store:
    """A folder on a store."""

    def __init__(self, address: PathLike):
        self.address = os.fspath(address).rstrip("/")
        if problem := path_problem(self.address, stores=True):
            raise UserError(f"{self.address} {problem}")
        scheme = self.address.partition("://")[0]
        require(*STORES[scheme], use=f"{scheme}://")
        import fsspec

        with self.errors("opened"):
            self._files, self._root = fsspec.core.url_to_fs(self.address)

    def list(self) -> dict[str, tuple[str, int]]:
        """{name below the folder: (what changes with the contents, bytes)}."""
        with self.errors("read"):
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        names = {}
        for path, info in found.items():
            if path == self._root or path.endswith("/") or info.get("type") == "directory":
                continue  # empty files that some tools write for folders; or the address of a file
            name = path.removeprefix(f"{self._root}/")
            if name == path or {"", ".", ".."} & {*name.split("/")}:
                raise UserError(f"{self.address} holds a file {path!r}, which lies outside of it: give another folder")
            names[name] = _digest(info), info.get("size") or 0
        return names

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        with contextlib.suppress(Missing), self.errors("read"):
            return self._files.cat_file(self._at(name))

    def write(self, name: str, data: bytes) -> None:
        with self.errors("written"):
            self._files.pipe_file(self._at(name), data)

    def get(self, name: str, path: pathlib.Path) -> None:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "wb") as file, self.errors("read", of_this_disk=FULL):
            self._files.get_file(self._at(name), file.name)

    def put(self, path: pathlib.Path, name: str) -> bool:
        """Whether the file was still here."""
        try:
            with self.errors("written"):
                self._files.put_file(os.fspath(path), self._at(name))
        except Missing:  # which a store also says of a bucket
            if path.exists():
                raise
            return False
        return True

    def remove(self, name: str) -> None:
        with contextlib.suppress(Missing), self.errors("written"):
            self._files.rm_file(self._at(name))

    def _at(self, name):
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def errors(self, done, of_this_disk=()):
        """Turns every error of the block into one sentence, but OSErrors `of_this_disk`, by their numbers."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of the network, the login, the name: the libraries have no common one
            if isinstance(error, OSError) and error.errno in of_this_disk:
                raise
            kind = Missing if isinstance(error, FileNotFoundError) else StorageError
            cause = " ".join(f"{type(error).__name__} {error}".split())[:300]
            mend = "the network, the login and the room there" if done == "written" else "the network and the login"
            raise kind(f"{self.address} cannot be {done} ({cause}): see to {mend}") from None


def _digest(info):
    return hashlib.sha256(repr(sorted((key, str(value)) for key, value in info.items())).encode()).hexdigest()[:16]
