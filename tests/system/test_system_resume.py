"""A run that was stopped, killed or damaged ends with the bits of one that was not."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from benchmarks.soak.records import end_of
from semdlm_jax import continuing, keys, remote
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.record import read_config
from semdlm_jax.runtime.lock import training_lock
from semdlm_jax.runtime.metrics import MetricWriter
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.train import Run

# Dies at step 8, once the checkpoint of step 5 is on disk.
KILLED = """
import os, runpy, signal, sys, time
from pathlib import Path
from semdlm_jax.runtime.metrics import MetricWriter

config, workdir = sys.argv[1:]
write = MetricWriter.write

def write_and_die(self, step, values, prefix=""):
    write(self, step, values, prefix)
    if step == 8:
        for _ in range(3000):
            if Path(workdir, "checkpoints", "5").exists():
                break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

MetricWriter.write = write_and_die
sys.argv = ["train", f"--config={config}", f"--workdir={workdir}"]
runpy.run_module("semdlm_jax.train", run_name="__main__")
"""


def steps_on_disk(workdir):
    return sorted((path.name for path in (workdir / "checkpoints").iterdir()), key=lambda name: (len(name), name))


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


def continued(config_file, workdir):
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}")
    assert result.status == 0, result.err
    return result


def assert_same_end(workdir, other):
    """Parameters, average, moments, the data position and the record of losses are those of the other run."""
    (step, arrays), (other_step, others) = map(end_of, (workdir, other))
    assert step == other_step == read_config(workdir)["training"]["steps"]
    assert len(arrays) > 60 and any(np.any(array != 0) for array in arrays)
    assert all(np.array_equal(array, wanted) for array, wanted in zip(arrays, others, strict=True))
    assert losses(workdir) == losses(other)


def test_killed_between_two_checkpoints(config_file, whole_run, tmp_path):
    run = tiny.python("-c", KILLED, config_file, tmp_path)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert steps_on_disk(tmp_path) == ["5"] and len(losses(tmp_path)) == 8
    left = tmp_path / ".metrics.jsonl.partial-0123abcd"  # by a process that was killed while it wrote
    left.write_text("half")
    assert "from step 5" in continued(config_file, tmp_path).out and not left.exists()
    assert_same_end(tmp_path, whole_run)


def test_terminated_then_damaged(config_file, whole_run, tmp_path, monkeypatch):
    workdir, damaged = tmp_path / "run", tmp_path / "damaged"
    # The progress of a step is shown while the next one runs.
    result = tiny.terminated_at(monkeypatch, config_file, workdir, Progress, "update", 6)
    assert result.status == 0 and "stopped on request at step 7" in result.out, result
    assert steps_on_disk(workdir) == ["5", "7"]
    shutil.copytree(workdir, damaged)

    assert "from step 7" in continued(config_file, workdir).out
    assert_same_end(workdir, whole_run)

    files = [path for path in (damaged / "checkpoints" / "7").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    result = continued(config_file, damaged)
    assert "from step 5" in result.out and "damaged" in result.err and largest.name in result.err
    assert steps_on_disk(damaged) == ["5", "10", "12", "7.corrupt"]
    assert_same_end(damaged, whole_run)


def test_terminated_after_the_step_had_decided_not_to_save(config_file, tmp_path, monkeypatch, capsys):
    result = tiny.terminated_at(monkeypatch, config_file, tmp_path, MetricWriter, "write", 3)
    assert result.status == 0 and "stopped on request at step 4" in result.out, result
    assert steps_on_disk(tmp_path) == ["4"]
    # It was never validated, so none is the best.
    assert load_trained(tmp_path).step == 4
    assert "has a 'valid/nelbo' recorded: the latest is read, step 4" in capsys.readouterr().err


def test_a_finished_run_has_nothing_to_do(config_file, whole_run):
    before = sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*"))
    assert "trained to its 12 steps" in continued(config_file, whole_run).out
    assert sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*")) == before


@pytest.mark.parametrize("key", ["mesh.data=1", "training.log_every=50"])
def test_what_may_change_between_two_starts(config_file, whole_run, key):
    result = tiny.command("train", f"--config={config_file}", f"--workdir={whole_run}", f"--config.{key}")
    assert result.status == 0, result.err


def test_more_steps(config_file, whole_run, tmp_path):
    """A schedule without an end gives what as many steps at once would have given; the record says what happened."""
    shutil.copytree(whole_run, tmp_path / "run")
    flags = [f"--config={config_file}", f"--workdir={tmp_path}/run"]
    assert tiny.record(tmp_path / "run").keys() & {"history", "parent"} == set()
    tiny.assert_refused(
        tiny.command("train", *flags, "--config.training.steps=9"),
        "has done 12 steps",
        "give 12 or more",
    )
    assert tiny.record(tmp_path / "run") == tiny.record(whole_run)
    result = tiny.command("train", *flags, "--config.training.steps=14")
    assert result.status == 0, result.err
    for words in ("training.steps was 12 and is 14", "of step 13 is 0.005, and would have been 0.005"):
        assert words in result.out
    changed = tiny.record(tmp_path / "run")
    assert changed.pop("history") == [{"step": 12, "key": "training.steps", "was": 12, "is": 14}]
    assert changed.pop("training")["steps"] == 14 and changed.items() <= tiny.record(whole_run).items()
    again = tiny.command("train", *flags, "--config.training.steps=14")
    assert "trained to its 14 steps" in again.out and "was 12" not in again.out
    at_once = tiny.command(
        "train", f"--config={config_file}", f"--workdir={tmp_path}/whole", "--config.training.steps=14"
    )
    assert at_once.status == 0 and losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_two_at_once(config_file, whole_run, tmp_path):
    """The second start is refused before it has built anything, and changes nothing."""
    with training_lock(tmp_path):
        result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}")
        tiny.assert_refused(result, f"process {os.getpid()} on", str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [".training.lock"]
    with training_lock(whole_run):
        assert tiny.command("generate", f"--workdir={whole_run}", "--num_samples=1", "--steps=4").status == 0


def test_lost_checkpoints_are_told_before_a_run_begins_anew(config_file, whole_run, tmp_path, capsys, monkeypatch):
    """But not those that a killed run had not saved yet: every 5 steps one, and the second waits for the first. A store
    has no empty folder to show that the first had begun."""
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    checkpoints, metrics = tmp_path / "checkpoints", tmp_path / "metrics.jsonl"
    config = ConfigDict({name: tiny.record(tmp_path)[name] for name in keys.SECTIONS})
    shutil.rmtree(checkpoints)
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}")
    tiny.assert_refused(result, "trained to step 12", "checkpoints are gone", "remove metrics.jsonl")
    config.training.checkpoint_every = 3  # now
    for place, refused, told in (("no folder", 6, 5), ("a copy", 11, 10), ("a folder", 11, 10)):
        monkeypatch.setattr(remote, "_ADDRESSES", {tmp_path: "memory://bucket/run"} if place == "a copy" else {})
        if place == "a folder":
            checkpoints.mkdir()
        metrics.write_text(f'{{"step": 3}}\n{{"step": {refused}}}\n')
        with pytest.raises(UserError, match=f"trained to step {refused}, .* checkpoints are gone"):
            continuing.compare(tmp_path, config)
        metrics.write_text(f'{{"step": {told}}}\n{{"step": {refused}')
        assert continuing.compare(tmp_path, config) == tiny.record(tmp_path)
        assert f"came to step {told} and saved no checkpoint: the run begins again" in capsys.readouterr().out
    (tmp_path / "config.json").unlink()
    for left in (metrics, checkpoints / "5"):
        with pytest.raises(UserError, match=f"holds {left.relative_to(tmp_path).parts[0]} but no config.json"):
            continuing.compare(tmp_path, config)
        (checkpoints / "5").mkdir(exist_ok=True)


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_the_record_stays_where_a_run_cannot_go_on(config_file, whole_run, tmp_path, name):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).rename(tmp_path / "former")
    os.mkfifo(tmp_path / name)
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}", "--config.training.steps=13")
    tiny.assert_refused(result, str(tmp_path / name))
    assert tiny.record(tmp_path) == tiny.record(whole_run)


def test_nothing_is_saved_in_a_work_directory_that_was_removed():
    def removed():
        raise StorageError("removed")

    with pytest.raises(StorageError, match="removed"):
        Run.save(SimpleNamespace(_check_held=removed), 5)


def test_a_save_that_fails_is_one_sentence(config_file, whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").write_text("")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}/run")
    lines = [line for line in result.err.splitlines() if not line.startswith("train ")]
    assert result.status == 1 and len(lines) == 1, result
    assert lines[0].startswith("error: the checkpoint of step 5 could not be written") and "no earlier one" in lines[0]
