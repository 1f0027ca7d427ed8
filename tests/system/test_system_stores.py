"""Folders on object stores: copies that are read, and a work directory that is written there.

The store is that of fsspec in this process's memory; it has the interface of those on a network.
"""

import errno
import itertools
import json
import os
import pathlib
import shutil

import fsspec
import pytest
import tiny

from semdlm_jax import compare, parent, remote
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.remote.store import Store
from semdlm_jax.runtime.progress import Progress

ADDRESSES = (f"memory://bucket-{number}/run" for number in itertools.count())
MEMORY = "fsspec.implementations.memory.MemoryFileSystem"
NEVER = 1e6  # seconds between two looks: only the end of the block writes


@pytest.fixture
def address():
    return next(ADDRESSES)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(name): from now on as on another machine, without the copies of this one."""

    def use(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        remote._COPIED.clear()

    use("first")
    return use


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


def test_a_copy_is_brought_up_to_date(address, machine, capsys):
    put(address, **{"a": b"one", "deep/b": b"two", "gone/c": b"three"})
    folder = remote.local(f"{address}/")
    assert below(folder) == {"a": b"one", "deep/b": b"two", "gone/c": b"three"}
    assert "3 files" in capsys.readouterr().err and remote.origin(folder) == address
    kept = (folder / "deep/b").stat()
    fsspec.filesystem("memory").rm_file(f"{address.removeprefix('memory:/')}/gone/c")
    put(address, a=b"two")  # as long as before
    (folder / "new").write_text("not there")
    assert below(remote.local(address))["a"] == b"one"  # once in a process
    remote._COPIED.clear()
    assert below(remote.local(address)) == {"a": b"two", "deep/b": b"two"} and not (folder / "gone").exists()
    assert (folder / "deep/b").stat() == kept and "1 file, " in capsys.readouterr().err
    (folder / "deep/b").write_bytes(b"TWO")  # a copy that was damaged here
    remote._COPIED.clear()
    assert below(remote.local(address)) == {"a": b"two", "deep/b": b"two"}


def test_what_cannot_be_copied(address, machine, tmp_path, monkeypatch):
    assert remote.local(tmp_path) == tmp_path and remote.origin(tmp_path) == str(tmp_path)
    with pytest.raises(UserError, match="nothing is there"):
        remote.local(address)
    with pytest.raises(UserError, match="no store that is known.*gs://, s3://"):
        remote.local("nowhere://bucket/run")
    with pytest.raises(UserError, match=r"gs:// needs gcsfs.*semdlm_jax\[gcs\]"):
        remote.local("gs://bucket/run")
    put(address, a=b"")
    monkeypatch.setattr(Store, "_at", lambda self, name: "bucket/missing")
    with pytest.raises(StorageError, match=f"{address} cannot be read .FileNotFoundError"):
        remote.local(address)
    monkeypatch.setattr(f"{MEMORY}.find", lambda *_, **__: {"/outside": {}})
    with pytest.raises(UserError, match="lies outside"):
        remote.local(address)


def test_what_a_training_writes_is_on_the_store(address, machine):
    folder = work(
        address,
        ("config.json", b"{}"),
        (".training.lock", b"here"),
        ("checkpoints/5/state/d", b"weights"),
        ("checkpoints/6.tmp/d", b"half"),
    )
    assert held(address) == {"config.json": b"{}", "checkpoints/5/state/d": b"weights"}
    work(address, ("config.json", b"[]"), ("checkpoints/5/state/d", None))
    assert held(address) == {"config.json": b"[]"} and not (folder / "checkpoints/5/state/d").exists()


def test_the_seal_of_a_checkpoint_is_written_last_and_removed_first(address, machine, monkeypatch):
    told, write, remove = [], Store.put, Store.remove
    monkeypatch.setattr(Store, "put", lambda self, path, name: told.append(name) or write(self, path, name))
    monkeypatch.setattr(Store, "remove", lambda self, name: told.append(f"-{name}") or remove(self, name))
    names = "metrics.jsonl", "checkpoints/5/integrity.json", "checkpoints/5/commit.txt", "checkpoints/5/state/d/a"
    work(address, *[(name, b"1") for name in names])
    assert told == list(reversed(names))
    told.clear()
    work(address, *[(name, None) for name in names])
    assert told[0] == "-metrics.jsonl" and told[-1] == "-checkpoints/5/state/d/a"


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


def test_addresses_of_other_flags(machine):
    first, second = next(ADDRESSES), next(ADDRESSES)
    for address in (first, second):
        put(address, **{"config.json": b'{"seed": 1}'})
    assert [run.config["seed"] for run in compare.read_runs([first, f"{second}/"])] == [1, 1]
    with pytest.raises(UserError, match="are the same run"):
        compare.read_runs([first, f"{first}/"])
    asked = parent.parse(f"{first}:5")  # copied only where it is needed
    assert asked.run == first and asked.names({"workdir": first, "weights": "ema", "optimizer": False, "step": 5})
    with pytest.raises(UserError, match="one slash, as pathlib makes it"):
        remote.local(pathlib.Path(first))


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


def test_a_run_goes_on_on_another_machine(config_file, whole_run, address, machine, tmp_path, monkeypatch):
    data = next(ADDRESSES)
    prepared = tiny.command("data.prepare", f"--config={config_file}", "--check").out.split(" is as")[0]
    fsspec.filesystem("memory").put(f"{prepared}/", data.removeprefix("memory:/") + "/", recursive=True)
    place = f"--data_directory={data}"
    first = tiny.terminated_at(monkeypatch, config_file, address, Progress, "update", 6, place)
    assert first.status == 0 and "saved" in first.out, first
    machine("second")
    second = tiny.command("train", f"--config={config_file}", f"--workdir={address}", place)
    assert second.status == 0 and "from step 7" in second.out, second
    trained, whole = load_trained(address, "latest"), load_trained(whole_run, "latest")
    assert trained.config.data.directory == trained.config.places.data.directory == data
    assert trained.digest == whole.digest

    machine("third")
    report = tmp_path / "report.json"
    scored = tiny.command("evaluate", f"--workdir={address}", "--measures=likelihood", f"--output={report}")
    assert scored.status == 0 and json.loads(report.read_text())["workdir"] == address, scored
    assert tiny.command("generate", f"--workdir={address}", "--num_samples=1", "--steps=2").status == 0
    new = f"--workdir={next(ADDRESSES)}", f"--init_from={address}:latest", "--config.training.steps=12"
    child = tiny.command("train", f"--config={config_file}", place, *new)
    assert child.status == 0 and f"beginning with the ema weights of {address}, step 12" in child.out, child


@pytest.mark.parametrize(
    "program, arguments, words",
    [
        ("train", ("--workdir=gs://",), "names no bucket"),
        ("train", ("--workdir=http://there/run",), "no store that is known"),
        ("train", ("--workdir=gs://bucket/..",), "is the address of no folder"),
        ("train", ("--workdir=gs://bucket//run",), "is the address of no folder"),
        ("data.prepare", ("--config.data.directory=memory://there/data",), "copy the folder to the store"),
        ("semantics.build", ("--config.data.directory=memory://there/data",), "copy the folder to the store"),
    ],
)
def test_addresses_that_are_refused(config_file, program, arguments, words):
    tiny.assert_refused(tiny.command(program, f"--config={config_file}", *arguments), words)
