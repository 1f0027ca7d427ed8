"""The copy of a store's folder on this machine, and what it knows of the store."""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import sys

from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.remote.store import Store
from semdlm_jax.storage import cache_folder, clear_partials, write_text

OWNER = ".training.owner"  # on the store: which training writes there


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Copy:
    """The copy of a store's folder.

    Beside the folder lie a lock and a file that says which state of which file is the same here and there, and which
    training of this copy wrote to the store last.
    """

    def __init__(self, store: Store, kind: str, leave_out: tuple[str, ...] = ()):
        self.store, self._leave_out = store, leave_out
        digest = hashlib.sha256(store.address.encode()).hexdigest()[:16]
        self.folder = cache_folder() / kind / digest / (pathlib.PurePosixPath(store.address).name or "store")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock, self._state_file = (self.folder.parent / name for name in ("lock", "state.json"))
        self._token = ""

    def fetch(self) -> bool:
        """Makes the folder equal to the store's; returns whether anything is there."""
        clear_partials(self.folder)
        there, state = self.store.list(), self._state()
        there.pop(OWNER, None)
        here, same = self._files(), state["same"]
        wanted = [name for name, (mark, _) in there.items() if same.get(name) != [mark, *here.get(name, ())]]
        if wanted:
            size = sum(there[name][1] for name in wanted) / 2**20
            tell(f"copying {counted(len(wanted), 'file')}, {size:,.1f} MiB, from {self.store.address}")
        for name in here.keys() - there.keys():
            (self.folder / name).unlink()
        for folder, _, _ in os.walk(self.folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(folder)
        self.folder.mkdir(exist_ok=True)
        try:
            for name in wanted:
                same.pop(name, None)
                self.store.get(name, self.folder / name)
                same[name] = [there[name][0], *_stamp(self.folder / name)]
        finally:
            self._write_state(state | {"same": {name: same[name] for name in there if name in same}})
        return bool(there)

    def take_over(self, holder: str) -> None:
        """Brings the folder up to date and says on the store that this training writes there from now on."""
        state, found = self._state(), self._owner()
        if found is None or found.get("token") != state["token"]:  # otherwise the store has nothing newer
            self.fetch()
            state = self._state()
        self._token = secrets.token_hex(8)
        self.store.write(OWNER, json.dumps({"token": self._token, "holder": holder}).encode())
        self._write_state(state | {"token": self._token})

    def push(self) -> None:
        """Writes to the store what has changed here.

        Raises:
            UserError: another training writes there.
            StorageError: the store does not answer.
        """
        found = self._owner() or {}
        if found.get("token") != self._token:
            raise UserError(
                f"another training began in {self.store.address} ({found.get('holder', 'unknown')}), so this one "
                f"writes nothing more there; what it has is in {self.folder}"
            )
        state, here = self._state(), self._files()
        same, changed = state["same"], []
        # What lies deep goes first, and a seal after the files beside it: see `working`.
        for name in sorted(here, key=lambda name: (-name.count("/"), name)):
            if same.get(name, [])[1:] != list(here[name]):
                if self.store.put(self.folder / name, name):
                    changed.append(name)
        for name in sorted(same.keys() - here.keys(), key=lambda name: (name.count("/"), name)):
            self.store.remove(name)
            del same[name]
        if changed:
            marks = self.store.list()
            same.update({name: [marks[name][0], *here[name]] for name in changed if name in marks})
        self._write_state(state)

    def _owner(self):
        """What the store says of the training that writes there; None if nothing."""
        try:
            found = json.loads(self.store.read(OWNER) or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _files(self):
        """{name: (bytes, time of the last change in ns)} of what belongs on the store."""
        found = {}
        for folder, below, names in os.walk(self.folder):
            below[:] = [name for name in below if self._belongs(name)]
            for name in filter(self._belongs, names):
                path = pathlib.Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(self.folder).as_posix()] = _stamp(path)
        return found

    def _belongs(self, name):
        return not name.startswith(".") and not any(part in name for part in self._leave_out)

    def _state(self):
        try:
            found = json.loads(self._state_file.read_bytes())
            return {"token": str(found["token"]), "same": dict(found["same"])}
        except (OSError, ValueError, TypeError, KeyError):
            return {"token": "", "same": {}}

    def _write_state(self, state):
        write_text(self._state_file, json.dumps(state))


def _stamp(path):
    found = path.stat()
    return found.st_size, found.st_mtime_ns
