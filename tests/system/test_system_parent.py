"""A run that begins with the weights of another."""

import contextlib
import json
import shutil

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from semdlm_jax import keys, parent
from semdlm_jax.experiment.build import build_denoiser, build_mesh, build_optimizer, shard_rule
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.load import make_reader, read_run
from semdlm_jax.runtime.state import abstract_state
from semdlm_jax.train import Run


def state_of(workdir, step):
    config = read_run(workdir)
    corpus = build_run_data(config)
    denoiser, (optimizer, _) = build_denoiser(config, corpus), build_optimizer(config)
    abstract = abstract_state(denoiser.init, optimizer, shard_rule(build_mesh(config)))
    state, _ = make_reader(workdir).restore(abstract, step=step)
    return state


def assert_equal(tree, wanted):
    assert jax.tree.structure(tree) == jax.tree.structure(wanted)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, tree, wanted)))


@pytest.mark.parametrize("weights, moments", [("ema", False), ("raw", True)])
def test_a_run_that_begins_with_another_ones_weights(config_file, whole_run, tmp_path, weights, moments, capsys):
    workdir, before = tmp_path / "run", sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*"))
    initial = [f"--init_from={whole_run}:10", f"--init_weights={weights}"] + ["--init_optimizer"] * moments
    flags = [f"--config={config_file}", f"--workdir={workdir}", "--config.optimizer.schedule=cosine"]
    flags += ["--config.training.steps=3", "--config.training.batch_size=16", "--config.warmup.steps=0"]
    flags.append("--config.network.time_conditioning=False")
    config = ConfigDict(tiny.record(whole_run))
    config.optimizer.schedule, config.warmup.steps = "cosine", 0
    config.training.update(steps=3, batch_size=16)
    config.network.time_conditioning = False
    config = ConfigDict({name: config[name] for name in keys.SECTIONS})
    parent_state = state_of(whole_run, 10)
    with contextlib.closing(Run(config, workdir, parent.parse(f"{whole_run}:10", weights, moments))) as run:
        wanted = parent_state.params if weights == "raw" else parent_state.ema_params
        assert int(run.state.step) == 0
        assert_equal(run.state.params, wanted)
        assert_equal(run.state.ema_params, wanted)
        adam, schedule = run.state.opt_state[1][0], run.state.opt_state[1][2]
        assert int(adam.count) == (10 if moments else 0) and int(schedule.count) == 0
        if moments:
            assert_equal(adam.mu, parent_state.opt_state[1][0].mu)
    note = f"note: all weights of {whole_run} are taken, and the network uses them otherwise: "
    assert f"{note}network.time_conditioning is false and was true\n" in capsys.readouterr().out
    entry = tiny.record(workdir)["parent"]
    assert entry == {
        "workdir": str(whole_run),
        "step": 10,
        "checkpoint": 10,
        "weights": weights,
        "optimizer": moments,
        "integrity": make_reader(whole_run).digest(10),
    }
    # It stopped before its first checkpoint; the record alone says what it began with.
    result = tiny.command("train", *flags)
    assert f"beginning with the {weights} weights" in result.out and result.status == 0, result
    result = tiny.command("train", *flags, *initial)
    assert "--init_from was used at the first start" in result.out and result.status == 0, result
    assert tiny.record(workdir)["parent"] == entry
    for run in (f"{whole_run}:5", tmp_path, whole_run):
        result = tiny.command("train", *flags, *initial[1:], f"--init_from={run}")
        tiny.assert_refused(result, "began with the", "step 10", "another work directory")
    assert sorted((path, path.stat().st_mtime_ns) for path in whole_run.rglob("*")) == before


REFUSED = {
    "no such run": (["--init_from={folder}"], ["holds no config.json"]),
    "no such step": (["--init_from={run}:7"], ["no checkpoint at step 7", "5, 10, 12"]),
    "no run": (["--init_from=:5"], ["names no run"]),
    "options of none": (["--init_weights=raw"], ["give --init_from=RUN"]),
    "another network": (["--init_from={run}", "--config.network.width=16"], ["another model", "and was"]),
    "another vocabulary": (
        ["--init_from={run}", "--config.data.corpus=synthetic"],
        ["another vocabulary", "random tokens"],
    ),
    "another optimizer": (
        ["--init_from={run}", "--init_optimizer", "--config.optimizer.name=muon"],
        ["opt_state", "leave out --init_optimizer"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_begun_with(config_file, whole_run, tmp_path, case):
    flags, words = REFUSED[case]
    flags = [flag.format(folder=tmp_path, run=whole_run) for flag in flags]
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}/run", *flags)
    tiny.assert_refused(result, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_has_changed(config_file, whole_run, tmp_path):
    """A run that was stopped before its first checkpoint does not begin with something else."""
    shutil.copytree(whole_run, tmp_path / "parent")
    (tmp_path / "run").mkdir()
    entry = {"step": 12, "checkpoint": "latest", "weights": "ema", "optimizer": False, "integrity": "0" * 64}
    changed = tiny.record(whole_run) | {"parent": entry | {"workdir": str(tmp_path / "parent")}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(changed))
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}/run")
    tiny.assert_refused(result, "its checkpoint of step 12", "has changed or is gone")


def test_a_run_that_begins_with_a_portable_model(config_file, whole_run, tmp_path):
    """Its averaged weights, a new optimizer state, and the recorded parent; what it does not hold is refused."""
    model, workdir = tmp_path / "model", tmp_path / "run"
    assert tiny.command("export", f"--workdir={whole_run}", f"--output={model}").status == 0
    flags = [f"--config={config_file}", f"--workdir={workdir}", f"--init_from={model}"]
    for more, words in (
        (["--init_weights=raw"], ["portable model", "averaged weights alone"]),
        (["--init_optimizer"], ["averaged weights alone", "leave out"]),
        ([f"--init_from={model}:3"], ["of step 12 alone", "checkpoint 3"]),
        (["--config.network.width=64"], ["weights of another network", "set the keys of config.network"]),
    ):
        tiny.assert_refused(tiny.command("train", *flags, *more), *words)
        assert not workdir.exists()
    config = ConfigDict({name: tiny.record(whole_run)[name] for name in keys.SECTIONS})
    with contextlib.closing(Run(config, workdir, parent.parse(str(model)))) as run:
        assert_equal(run.state.params, state_of(whole_run, 12).ema_params)
        assert int(run.state.step) == int(run.state.opt_state[1][0].count) == 0
    entry = tiny.record(workdir)["parent"]
    assert (entry["workdir"], entry["step"], entry["weights"], entry["optimizer"]) == (str(model), 12, "ema", False)
