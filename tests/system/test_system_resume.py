"""A run that was stopped, killed or damaged ends with the bits of one that was not."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from semdlm_jax import assembly, inputs
from semdlm_jax.record import read_config
from semdlm_jax.runtime.metrics import MetricWriter
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.runtime.state import abstract_state

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
    config = ConfigDict(read_config(workdir))
    corpus = inputs.build_corpus(config)
    place = assembly.shard_rule(assembly.build_mesh(config))
    denoiser, (optimizer, _) = assembly.build_denoiser(config, corpus), assembly.build_optimizer(config)
    abstract = abstract_state(denoiser.init, optimizer, place)
    ends = []
    for one in (workdir, other):
        checkpointer, iterator = assembly.make_checkpointer(config, one), inputs.train_iterator(config, corpus)
        state, step = checkpointer.restore(abstract, iterator)
        checkpointer.close()
        assert step == config.training.steps == int(state.step)
        ends.append((jax.tree.leaves(state), next(iterator)["tokens"]))
    (leaves, batch), (other_leaves, other_batch) = ends
    assert len(leaves) > 60 and any(np.any(leaf != 0) for leaf in leaves)
    assert all(np.array_equal(leaf, wanted) for leaf, wanted in zip(leaves, other_leaves, strict=True))
    np.testing.assert_array_equal(batch, other_batch)
    assert losses(workdir) == losses(other)


def test_killed_between_two_checkpoints(config_file, whole_run, tmp_path):
    run = tiny.python("-c", KILLED, config_file, tmp_path)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert steps_on_disk(tmp_path) == ["5"] and len(losses(tmp_path)) == 8
    assert "from step 5" in continued(config_file, tmp_path).out
    assert_same_end(tmp_path, whole_run)


def terminated_at(monkeypatch, config_file, workdir, kind, name, step):
    """A run that gets SIGTERM when `kind.name` is called for a step."""
    former = getattr(kind, name)

    def called(self, at, *arguments, **options):
        former(self, at, *arguments, **options)
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, called)
        return tiny.command("train", f"--config={config_file}", f"--workdir={workdir}")


def test_terminated_then_damaged(config_file, whole_run, tmp_path, monkeypatch):
    workdir, damaged = tmp_path / "run", tmp_path / "damaged"
    # The progress of a step is shown while the next one runs.
    result = terminated_at(monkeypatch, config_file, workdir, Progress, "update", 6)
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


def test_terminated_after_the_step_had_decided_not_to_save(config_file, tmp_path, monkeypatch):
    result = terminated_at(monkeypatch, config_file, tmp_path, MetricWriter, "write", 3)
    assert result.status == 0 and "stopped on request at step 4" in result.out, result
    assert steps_on_disk(tmp_path) == ["4"]
    # It was never validated, so none is the best.
    tiny.assert_refused(tiny.command("generate", f"--workdir={tmp_path}"), "valid/nelbo", "ask for the latest")


def test_a_finished_run_has_nothing_to_do(config_file, whole_run):
    before = sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*"))
    assert "trained to its 12 steps" in continued(config_file, whole_run).out
    assert sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*")) == before


@pytest.mark.parametrize("key", ["mesh.data=1", "training.log_every=50"])
def test_what_may_change_between_two_starts(config_file, whole_run, key):
    result = tiny.command("train", f"--config={config_file}", f"--workdir={whole_run}", f"--config.{key}")
    assert result.status == 0, result.err
