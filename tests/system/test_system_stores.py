"""Folders on object stores: copies that are read, and a work directory that is written there.

The store is that of fsspec in this process's memory; it has the interface of those on a network.
"""

import itertools
import json

import fsspec
import pytest
import tiny

from semdlm_jax import remote
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.remote.store import Store
from semdlm_jax.runtime.progress import Progress

ADDRESSES = (f"memory://bucket-{number}/run" for number in itertools.count())
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
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.find", lambda *_, **__: {"/outside": {}})
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
        patch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", fail)
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


@pytest.mark.parametrize(
    "program, arguments, words",
    [
        ("train", ("--workdir=gs://",), "names no bucket"),
        ("train", ("--workdir=http://there/run",), "no store that is known"),
        ("data.prepare", ("--config.data.directory=memory://there/data",), "copy the folder to the store"),
        ("semantics.build", ("--config.data.directory=memory://there/data",), "copy the folder to the store"),
    ],
)
def test_addresses_that_are_refused(config_file, program, arguments, words):
    tiny.assert_refused(tiny.command(program, f"--config={config_file}", *arguments), words)
