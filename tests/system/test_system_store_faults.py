"""Faults of a store, of this machine and of its user, and two trainings at one address: nothing saved is lost."""

import errno
import os
import shutil

import fsspec
import pytest
from stores import MEMORY, NEVER, below, held, put, work

from semdlm_jax import remote
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.remote.store import Store


def test_what_is_lost_here_is_not_removed_there(address, machine, monkeypatch):
    everything = {"config.json": b"{}", "checkpoints/5/d": b"weights"}
    folder = work(address, *everything.items())
    with pytest.raises(StorageError, match=f"{folder}, of the copy of .*cannot be read .No such file.*put it back"):
        with remote.working(address, every=NEVER):
            shutil.rmtree(folder)
    assert held(address) == everything
    scan = os.scandir
    for lost in (folder, folder / "checkpoints"):  # beside the note of what is the same here and there
        shutil.rmtree(lost, ignore_errors=True)
        assert below(work(address)) == held(address) == everything

    def denied(place):
        if os.fspath(place).endswith("checkpoints"):
            raise PermissionError(errno.EACCES, "denied", place)
        return scan(place)

    with pytest.raises(StorageError, match="checkpoints, of the copy of .*cannot be read .denied"):
        with remote.working(address, every=NEVER):
            monkeypatch.setattr("os.scandir", denied)
    monkeypatch.undo()
    assert held(address) == everything


def test_links_are_followed(address, machine, tmp_path):
    folder = work(address, ("checkpoints/5/d", b"weights"))
    (folder / "checkpoints").rename(tmp_path / "moved")
    (folder / "checkpoints").symlink_to(tmp_path / "moved")
    os.mkfifo(folder / "pipe")
    work(address, ("checkpoints/6", b"new"))
    assert held(address) == {"checkpoints/5/d": b"weights", "checkpoints/6": b"new"}


def test_what_other_processes_copy(address, machine, monkeypatch):
    """They have what the first one has, also what a former start could not write; or an empty folder."""
    put(address, a=b"stale")
    stale = remote.local(address)
    fsspec.filesystem("memory").rm(address.removeprefix("memory:/"), recursive=True)
    assert remote.local(address, again=True, may_be_empty=True) == stale and below(stale) == {}
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(f"{MEMORY}.put_file", lambda *_, **__: 1 / 0)
        work(address, ("config.json", b"{}"))
    assert held(address) == {}
    with remote.working(address, every=NEVER, at_once=True):
        assert below(remote.local(address, again=True, may_be_empty=True)) == {"config.json": b"{}"}


def test_nothing_is_copied_over_the_last_copy(address, machine):
    folder = work(address, ("a", b"one"))
    fsspec.filesystem("memory").rm(address.removeprefix("memory:/"), recursive=True)
    with pytest.raises(StorageError, match=f"no files any more, and {folder} has those.*copy them there.*or remove"):
        work(address)
    assert below(folder) == {"a": b"one"}


def test_what_was_written_is_not_lost_by_a_start_that_fails(address, machine, monkeypatch):
    """This machine is ahead of the store, and the store says who writes there, although its answer was lost."""
    work(address, ("a", b"one"))
    write = Store.write

    def fail(self, *arguments):
        write(self, *arguments)
        raise StorageError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(f"{MEMORY}.put_file", lambda *_, **__: 1 / 0)
        with pytest.raises(StorageError, match="ZeroDivisionError.*what is not there yet is in .*first.*writes it"):
            work(address, ("a", b"two"))
        for _ in range(2):
            patch.setattr(Store, "write", fail)
            with pytest.raises(StorageError, match="no answer"):
                work(address)
    assert below(work(address)) == held(address) == {"a": b"two"}


def test_a_copy_of_what_is_written_meanwhile_is_whole(address, machine, monkeypatch):
    put(address, **{"config.json": b"one", "5/d": b"weights", "5/seal": b"5"})
    get, files = Store.get, fsspec.filesystem("memory")

    def late(self, name, path):
        """A training goes on while the first file is copied."""
        if not path.exists() and not files.exists(f"{address}/6/d"):
            put(address, **{"config.json": b"two", "6/d": b"weights"})
            files.rm(f"{address}/5", recursive=True)
        get(self, name, path)

    monkeypatch.setattr(Store, "get", late)
    assert below(remote.local(address)) == held(address) == {"config.json": b"two", "6/d": b"weights"}


def test_a_training_that_another_one_replaces_while_it_writes(address, machine, monkeypatch):
    write, names = Store.put, []

    def slow(self, path, name):
        names.append(name)
        if len(names) == 1:
            machine("second")
            work(address, ("config.json", b"second"))
        return write(self, path, name)

    monkeypatch.setattr(Store, "put", slow)
    with pytest.raises(StorageError, match="another training began"):
        work(address, ("checkpoints/5/d", b"first"), ("checkpoints/seal", b"first"), ("config.json", b"first"))
    assert names == ["checkpoints/5/d", "config.json"]  # of the second
    assert held(address)["config.json"] == b"second" and "checkpoints/seal" not in held(address)


def test_a_training_that_is_refused_gives_way(address, machine, capsys):
    def refused():
        machine("second")
        with pytest.raises(UserError, match="of another config"), remote.working(address, every=NEVER) as folder:
            raise UserError(f"{folder} holds a run of another config")

    refused()
    assert not fsspec.filesystem("memory").exists(address)  # not even a note
    machine("first")
    with remote.working(address, every=NEVER) as folder:
        (folder / "a").write_text("one")
        refused()
    assert held(address) == {"a": b"one"}
    error = UserError(f"{folder} holds no checkpoint")
    assert remote.told(error) == f"{address} holds no checkpoint"


def test_interrupted_at_the_end(address, machine, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            work(address, ("a", b"one"))
    assert "warning: stopped while files were written" in capsys.readouterr().err
    assert held(address) == {} and below(work(address)) == held(address) == {"a": b"one"}


def test_disks_that_are_full_or_cannot_be_written(address, machine, monkeypatch):
    put(address, a=b"one")

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(f"{MEMORY}.get_file", full)
        with pytest.raises(StorageError, match="first.*/a: the disk is full"):
            remote.local(address)
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
        with pytest.raises(StorageError, match="0.0 MiB to copy, and .*first.*XDG_CACHE_HOME"):
            remote.local(address)
        patch.setenv("XDG_CACHE_HOME", "/dev/null")
        with pytest.raises(StorageError, match="cannot be copied to /dev/null.*set XDG_CACHE_HOME"):
            work(address)


def test_what_is_no_file_of_the_folder(address, machine, monkeypatch):
    put(address, **{"a": b"one", ".hidden": b"", "b/.hidden": b""})
    find, root = fsspec.filesystem("memory").find, address.removeprefix("memory:/")
    folders = {f"{root}{name}": {"name": f"{root}{name}", "size": 0} for name in ("/", "/b/", "")}
    monkeypatch.setattr(f"{MEMORY}.find", lambda self, *_, **options: find(root, **options) | folders)
    folder = remote.local(address)
    assert below(folder) == {"a": b"one"}
    (folder / ".a.partial-01234567").write_bytes(b"of a program that was killed")
    remote.local(address, again=True)
    assert below(folder) == {"a": b"one"}


def test_a_note_that_was_damaged_here(address, machine, capsys):
    folder = work(address, ("a", b"one"))
    folder.parent.with_suffix(".json").write_text('{"tokens": 5, "same": {"a": 7}}')
    (folder / "b").write_text("never written")
    assert below(work(address)) == held(address) == {"a": b"one"}
    assert "note: " in (err := capsys.readouterr().err) and "2 files, such as " in err


def test_only_one_training_writes_to_an_address(address, machine):
    with pytest.raises(UserError, match="another training began in .*process .* writes nothing more.*first"):
        with remote.working(address, every=NEVER) as folder:
            (folder / "a").write_text("one")
            with pytest.raises(UserError, match="is being trained here by process"):
                work(address)
            machine("second")
            work(address, ("a", b"two"))
    assert held(address) == {"a": b"two"}
    machine("first")  # which is behind now
    assert below(work(address, ("b", b"three"))) == held(address) == {"a": b"two", "b": b"three"}


def test_a_store_that_does_not_answer(address, machine, monkeypatch, capsys):
    def fail(*_):
        raise TimeoutError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(f"{MEMORY}.put_file", fail)
        with pytest.raises(StorageError, match="cannot be written .TimeoutError no answer"):
            work(address, ("a", b"one"))
        with pytest.raises(UserError, match="of the run itself"):  # and no other error hides that of the run
            with remote.working(address, every=0.01) as folder:
                while "tried again" not in capsys.readouterr().err:
                    pass
                raise UserError("of the run itself")
    assert held(address) == {}
    assert below(folder) == {"a": b"one"}  # no copy from the store replaced it, which has nothing newer
    work(address)
    assert held(address) == {"a": b"one"}
