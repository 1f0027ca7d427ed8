"""The copy of a store's folder on this machine, and what it knows of the store."""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import stat
import sys
import tempfile
import time

from semdlm_jax.errors import StorageError
from semdlm_jax.options import counted
from semdlm_jax.remote.store import Missing, Store
from semdlm_jax.storage import cache_folder, clear_partials, storage_errors, write_text

OWNER = ".training.owner"  # on the store: which training writes there
LISTS = 6  # of a folder that is copied: a training may be writing there
NOTED = 10.0  # seconds of copying between two notes of what is done


class Taken(StorageError):
    """Another training writes to the store."""


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Copy:
    """The copy of a store's folder.

    Beside its place lie a lock and a file that says which state of which file is the same here and there, and which
    trainings of this copy wrote to the store last. Hidden files are not copied.
    """

    def __init__(self, store: Store, kind: str, leave_out: tuple[str, ...] = ()):
        self.store, self._leave_out = store, leave_out
        digest = hashlib.sha256(os.fsencode(store.address)).hexdigest()[:16]
        place = cache_folder() / kind / digest
        self.folder = place / pathlib.PurePosixPath(store.address).name
        self.lock, self._state_file = place.with_suffix(".lock"), place.with_suffix(".json")
        self._token, self._former, self._wrote = "", None, False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder, place.parent):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise StorageError(
                f"{store.address} cannot be copied to {self.folder} ({error.strerror or error}): "
                "set XDG_CACHE_HOME to a folder that can be written"
            ) from None

    def fetch(self, keep: bool = False, clear: bool = False) -> bool:
        """Makes the folder equal to the store's, unless nothing is there; returns whether anything is.

        keep: only what is missing here is copied: this copy has nothing older than the store. clear: also equal to it
        if nothing is there.
        """
        for folder, _, _ in os.walk(self.folder):
            clear_partials(folder)
        state, there = self._state(), {}
        same = state["same"]
        try:
            for _ in range(LISTS):
                there = {name: found for name, found in self.store.list().items() if self._belongs(name)}
                if not there:
                    self._remove(self._files() if clear else ())
                    return False
                here, missing = self._files(), None
                if keep:
                    wanted = [name for name in there if name not in here]
                else:
                    wanted = [
                        name for name, (mark, _) in there.items() if same.get(name) != [mark, *here.get(name, ())]
                    ]
                    self._remove(here.keys() - there.keys())
                self._check_room(sum(there[name][1] for name in wanted), len(wanted))
                noted = time.monotonic()
                for name in wanted:
                    same.pop(name, None)
                    try:
                        self.store.get(name, self.folder / name)
                    except Missing as error:  # it was removed after the list
                        missing = error
                        continue
                    same[name] = [there[name][0], *_stamp(self.folder / name)]
                    if time.monotonic() > noted + NOTED:
                        self._write_state(state)
                        noted = time.monotonic()
                if not wanted:
                    return True
        finally:
            if there and not keep:
                # What is left out this time stays as it was known.
                state["same"] = {name: same[name] for name in same if name in there or not self._belongs(name)}
            self._write_state(state)
        raise missing or StorageError(f"{self.store.address} changes while it is copied: try again later")

    def take_over(self, holder: str) -> None:
        """Brings the folder up to date and says on the store that this training writes there from now on."""
        state, self._former = self._state(), self.store.read(OWNER)
        there, self._token = _parse(self._former).get("token"), secrets.token_hex(8)
        own = there is not None and there in state["tokens"]  # then the store has nothing newer
        only = [name for name, found in self._files().items() if state["same"].get(name, [])[1:] != [*found]]
        if only and not own:
            files = f"{counted(len(only), 'file')}, such as {only[0]}"
            tell(f"note: {self.store.address} replaces what this machine is not known to have written there: {files}")
        if not self.fetch(keep=own) and not own and self._files():
            raise StorageError(
                f"{self.store.address} has no files any more, and {self.folder} has those of a former start: copy "
                "them there to continue, or remove this folder to begin anew"
            )
        # Both are noted: what became of a write that fails is not known.
        if own:
            self._write_state(self._state() | {"tokens": [there, self._token]})
        self.store.write(OWNER, json.dumps({"token": self._token, "holder": holder}).encode())
        if not own:
            self.fetch()  # what the former training wrote in the meantime; it writes nothing more now
            self._write_state(self._state() | {"tokens": [self._token]})

    def give_back(self) -> None:
        """Undoes `take_over` on the store if nothing was written there: a training that is there goes on."""
        if self._wrote or _parse(self.store.read(OWNER)).get("token") != self._token:
            return
        if self._former is None:
            self.store.remove(OWNER)
        else:
            self.store.write(OWNER, self._former)

    def push(self) -> None:
        """Writes to the store what has changed here.

        Raises:
            Taken: another training writes there.
            StorageError: the store does not answer, or the folder here cannot be read.
        """
        self._check_own()
        state, here = self._state(), self._files()
        same = state["same"]
        try:
            # What lies deep goes first, and a seal after the files beside it: see `working`.
            for name in sorted(here, key=lambda name: (-name.count("/"), name)):
                if same.get(name, [])[1:] != [*here[name]]:
                    self._check_own()
                    same[name], self._wrote = [""], True  # to be removed there if it is gone here
                    if self.store.put(self.folder / name, name):
                        same[name] = ["", *here[name]]
            if gone := same.keys() - here.keys():
                gone -= self._files().keys()  # looked at twice: somebody may be removing the folder itself
            for name in sorted(gone, key=lambda name: (name.count("/"), name)):
                self._check_own()
                self._wrote = True
                self.store.remove(name)
                del same[name]
            if unmarked := [name for name in same if not same[name][0]]:
                marks = self.store.list()
                self._check_own()  # else they may be those of another training
                same.update({name: [marks[name][0], *same[name][1:]] for name in unmarked if name in marks})
        finally:
            self._write_state(state)

    def _check_own(self):
        found = _parse(self.store.read(OWNER))
        if found.get("token") != self._token:
            began = f"another training began in {self.store.address} ({found.get('holder', 'unknown')})"
            gone = f"{OWNER} was removed from {self.store.address}"
            raise Taken(
                f"{began if found else gone}, so this one writes nothing more there: what it has is in {self.folder}, "
                "until a training with this address begins here again"
            )

    def _check_room(self, size, files):
        if not files:
            return
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise StorageError(
                f"{self.store.address} has {size / 2**20:,.1f} MiB to copy, and {self.folder} room for "
                f"{free / 2**20:,.1f}: free space there, or set XDG_CACHE_HOME to a folder with more"
            )
        tell(f"copying {counted(files, 'file')}, {size / 2**20:,.1f} MiB, from {self.store.address}")

    def _remove(self, names):
        """Removes files here, and the folders that are empty then."""
        for name in names:
            with storage_errors(self.folder / name):
                (self.folder / name).unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.folder, topdown=False):
            if folder != os.fspath(self.folder):
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(folder)

    def _files(self):
        """{name: (bytes, time of the last change in ns)} of what belongs on the store.

        StorageError: a part cannot be read: it must not look as if its files had been removed.
        """
        found = {}
        try:
            for folder, below, names in os.walk(self.folder, onerror=self._unless_removed, followlinks=True):
                below[:] = [name for name in below if self._belongs(name)]
                for name in filter(self._belongs, names):
                    path = pathlib.Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        if stat.S_ISREG(path.stat().st_mode):
                            found[path.relative_to(self.folder).as_posix()] = _stamp(path)
        except OSError as error:
            raise StorageError(
                f"{error.filename}, of the copy of {self.store.address}, cannot be read ({error.strerror}): "
                "put it back as it was"
            ) from None
        return found

    def _unless_removed(self, error):
        if not (isinstance(error, FileNotFoundError) and self.folder.is_dir()):
            raise error

    def _belongs(self, name):
        parts = name.split("/")
        return not any(part.startswith(".") or any(left in part for left in self._leave_out) for part in parts)

    def _state(self):
        try:
            found = json.loads(self._state_file.read_bytes())
            same = {name: [*entry] for name, entry in found["same"].items()}
            return {"tokens": [*found["tokens"]], "same": {name: entry for name, entry in same.items() if entry}}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {"tokens": [], "same": {}}

    def _write_state(self, state):
        write_text(self._state_file, json.dumps(state))


def _parse(owner):
    """What the file OWNER says; {} if there is none."""
    try:
        found = json.loads(owner or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path):
    found = path.stat()
    return found.st_size, found.st_mtime_ns
