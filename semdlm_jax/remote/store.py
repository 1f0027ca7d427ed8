"""A folder on an object store, by fsspec: whole files that are listed, read, written and removed."""

import contextlib
import hashlib
import os
import pathlib

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.extras import require
from semdlm_jax.options import STORES, path_problem
from semdlm_jax.storage import PathLike, replacing


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
        names = {name: os.path.relpath(name, self._root) for name in found}
        if bad := [name for name in names.values() if name.startswith("..")]:
            raise UserError(f"{self.address} holds a file {bad[0]!r}, which lies outside of it: give another folder")
        return {names[name]: (_digest(info), info.get("size") or 0) for name, info in found.items()}

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        with self.errors("read"), contextlib.suppress(FileNotFoundError):
            return self._files.cat_file(self._at(name))

    def write(self, name: str, data: bytes) -> None:
        with self.errors("written"):
            self._files.pipe_file(self._at(name), data)

    def get(self, name: str, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "wb") as file, self.errors("read"):
            self._files.get_file(self._at(name), file.name)

    def put(self, path: pathlib.Path, name: str) -> bool:
        """Whether the file was still here."""
        with self.errors("written"):
            try:
                self._files.put_file(os.fspath(path), self._at(name))
            except FileNotFoundError:  # which a store also says of a bucket
                if path.exists():
                    raise
                return False
        return True

    def remove(self, name: str) -> None:
        with self.errors("written"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def _at(self, name):
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def errors(self, done):
        """Turns every error of the block into one sentence."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of the network, the login, the name: the libraries have no common one
            cause = " ".join(f"{type(error).__name__} {error}".split())[:300]
            raise StorageError(f"{self.address} cannot be {done} ({cause}): see to the network and the login") from None


def _digest(info):
    return hashlib.sha256(repr(sorted((key, str(value)) for key, value in info.items())).encode()).hexdigest()[:16]
