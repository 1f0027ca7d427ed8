"""Folders on object stores: copies that are read, and a work directory that is written there.

The store is that of fsspec in this process's memory; it has the interface of those on a network.
"""

import json
import pathlib

import fsspec
import pytest
import tiny
from stores import ADDRESSES, MEMORY, below, held, put, work

from semdlm_jax import compare, parent, remote
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.remote.store import Store
from semdlm_jax.runtime.progress import Progress


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


def test_addresses_of_other_flags(machine):
    first, second = next(ADDRESSES), next(ADDRESSES)
    for address in (first, second):
        put(address, **{"config.json": b'{"seed": 1}', "checkpoints/5/state/d/a": b"weights"})
    assert [run.config["seed"] for run in compare.read_runs([first, f"{second}/"])] == [1, 1]
    with pytest.raises(UserError, match="are the same run"):
        compare.read_runs([first, f"{first}/"])
    compared = remote.local(first, leave_out=("checkpoints",))
    assert below(compared) == {"config.json": b'{"seed": 1}'}  # a comparison needs no weights
    assert "checkpoints/5/state/d/a" in below(remote.local(first))
    remote.local(first, again=True, leave_out=("checkpoints",))
    assert "checkpoints/5/state/d/a" in below(compared)  # what was copied stays
    asked = parent.parse(f"{first}:5")  # copied only where it is needed
    assert asked.run == first and asked.names({"workdir": first, "weights": "ema", "optimizer": False, "step": 5})
    with pytest.raises(UserError, match="one slash, as pathlib makes it"):
        remote.local(pathlib.Path(first))


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
