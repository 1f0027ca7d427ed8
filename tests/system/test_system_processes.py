"""Training on several processes gives what one process gives; whoever is asked to stop, and when, it stops cleanly."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict
from stores import MACHINE

from semdlm_jax.experiment import load
from semdlm_jax.experiment.build import build_denoiser, build_optimizer, shard_rule
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.record import read_config
from semdlm_jax.runtime import startup
from semdlm_jax.runtime.fatal import SENTENCE
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.runtime.metrics import NAME as METRICS
from semdlm_jax.runtime.state import abstract_state

# A training whose steps take long enough for a request to come between two of them.
SLOW = """
import runpy, sys, time
from semdlm_jax.runtime.progress import Progress

update = Progress.update

def slowly(*arguments, **shown):
    time.sleep(0.4)
    update(*arguments, **shown)

Progress.update = slowly
sys.argv[0] = "train"
runpy.run_module("semdlm_jax.train", run_name="__main__")
"""
# Several trainings, one after another.
EACH = """
import sys
import tiny

options, config, *workdirs = sys.argv[1:]
for workdir in workdirs:
    result = tiny.command("train", f"--config={config}", f"--workdir={workdir}", *options.split())
    assert result.status == 0, result.err
    print(result.out)
"""


def rows(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait(condition, running):
    while not condition():
        assert all(one.poll() is None for one in running), tiny.finished(running)
        time.sleep(0.01)


def numbers(workdir):
    """What a run has recorded, and its state at the end: arrays by name."""
    config = ConfigDict(read_config(workdir))
    corpus = build_run_data(config)
    denoiser, (optimizer, _) = build_denoiser(config, corpus), build_optimizer(config)
    abstract = abstract_state(denoiser.init, optimizer, shard_rule(make_mesh(1, 1, 1, jax.devices()[:1])))
    checkpointer = load.make_checkpointer(config, workdir)
    state, step = checkpointer.restore(abstract)
    checkpointer.close()
    assert step == config.training.steps
    names = "train/loss", "train/grad_norm", "valid/nelbo", "valid/standard_error"
    found = {name: np.array([row[name] for row in rows(workdir) if name in row]) for name in names}
    return found | {"parameters": state.params, "average": state.ema_params}


def assert_close(found, wanted):
    """Up to the rounding of sums in another order, which Adam enlarges where gradients are tiny."""
    assert len(found["train/loss"]) == len(wanted["train/loss"]) == 12 and len(found["valid/nelbo"]) == 1
    for name in wanted:
        error = {"atol": 3e-4} if name in ("parameters", "average") else {"rtol": 1e-5}
        for one, other in zip(*map(jax.tree.leaves, (found[name], wanted[name])), strict=True):
            np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0} | error, err_msg=name)


# One loss: there is enough to compile. Half of the rows have a clean context.
CHANGES = "--config.warmup.steps=0", "--config.objective.clean_rows=0.5", "--config.network.clean_mark=True"


@pytest.fixture(scope="module")
def one(config_file, tmp_path_factory):
    """The work directory of a training on one device of one process."""
    workdir = tmp_path_factory.mktemp("processes") / "one"
    result = tiny.command("train", f"--config={config_file}", *CHANGES, f"--workdir={workdir}")
    assert result.status == 0, result
    return workdir


def test_several_processes_give_what_one_gives(config_file, one, tmp_path):
    """2 x 2 devices stop on the way and 1 x 4 continue; 4 x 1, two of which share a row, continue from 1 x 1."""
    two, four = tmp_path / "two", tmp_path / "four"
    options = f"--config={config_file}", *CHANGES
    slow = "-c", SLOW, *options, "--stop_status=75", f"--workdir={two}"
    running = tiny.started(*slow, processes=2, devices=2)
    wait(lambda: len(rows(two)) > 1, running)
    for process in reversed(running):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.03)
    first, second = tiny.finished(running)
    assert first.status == second.status == 75, (first, second)
    stopped = len(rows(two))
    assert stopped < 12 and f"stopped on request at step {stopped}" in first.out and "stopped" not in second.out
    saved = {path.name for path in (two / "checkpoints").iterdir()}
    assert saved == {str(step) for step in (5, 10, stopped) if step <= stopped}

    (alone,) = tiny.finished(tiny.started("-m", "semdlm_jax.train", *options, f"--workdir={two}", devices=4))
    assert alone.status == 0 and f"continuing {two} from step {stopped}" in alone.out, alone
    wanted = numbers(one)
    assert_close(numbers(two), wanted)

    shutil.copytree(one, four)
    for later in (10, 12):
        shutil.rmtree(four / "checkpoints" / str(later))
    command = "-m", "semdlm_jax.train", *options, f"--workdir={four}", "--config.mesh.tensor=2"
    together = tiny.finished(tiny.started(*command, processes=4))
    assert [result.status for result in together] == [0] * 4, together
    assert f"continuing {four} from step 5" in together[0].out
    assert_close(numbers(four), wanted)


def test_one_of_two_is_killed_and_both_start_again(config_file, one, tmp_path):
    """With weights cut over both: bit for bit what they give when nobody is killed, and one process's numbers."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    changes = *CHANGES, "--config.mesh.fsdp=2"
    running = tiny.started("-c", SLOW, f"--config={config_file}", *changes, f"--workdir={killed}", processes=2)
    wait(lambda: len(rows(killed)) > 6, running)
    running[1].kill()
    first, second = tiny.finished(running)
    assert second.status == -signal.SIGKILL and first.status > 0 and SENTENCE in first.err, (first, second)

    running = tiny.started("-c", EACH, " ".join(changes), config_file, killed, whole, processes=2)
    first, second = tiny.finished(running)
    assert first.status == second.status == 0 and f"continuing {killed} from step 5" in first.out, (first, second)
    again, wanted = numbers(killed), numbers(whole)
    jax.tree.map(np.testing.assert_array_equal, again, wanted)
    assert_close(wanted, numbers(one))


def test_processes_with_a_disk_each(config_file, one, tmp_path):
    """With weights cut over both they stop, and go on on other machines: what one process gives is on the store."""
    store, address = tmp_path / "store", "memory://bucket/run"
    options = f"--config={config_file}", *CHANGES, "--config.mesh.fsdp=2"

    def started(machine, pause, program, *options):
        arguments = tmp_path / machine, store, pause, program, f"--workdir={address}", *options
        return tiny.started("-c", MACHINE, *arguments, processes=2)

    def measured():
        return [row for path in (tmp_path / "first-0").rglob(METRICS) for row in rows(path.parent)]

    running = started("first", 0.4, "train", *options)
    wait(lambda: len(measured()) > 6, running)
    for process in running:
        process.send_signal(signal.SIGTERM)
    first, second = tiny.finished(running)
    assert first.status == second.status == 0 and "stopped on request" in first.out, (first, second)
    assert not list((tmp_path / "first-1").rglob("checkpoints/*"))  # it only helps

    first, second = tiny.finished(started("second", 0, "train", *options))
    assert first.status == second.status == 0, (first, second)
    assert f"continuing {address} from step {len(measured())}" in first.out and "continuing" not in second.out
    assert_close(numbers(store / "bucket" / "run"), numbers(one))
    measures = "--measures=likelihood", "--draws=1", "--output", tmp_path / "report.json"
    first, second = tiny.finished(started("third", 0, "evaluate", *measures))
    assert first.status == second.status == 0 and "NELBO" in first.out, (first, second)


APART = """
import os, sys

from semdlm_jax.runtime import lock

os.chdir(sys.argv.pop(1) + os.environ["JAX_PROCESS_ID"])
lock.LONGEST = 1
exec(sys.argv.pop(1))
"""


def test_a_folder_that_is_not_shared_is_refused(config_file, tmp_path):
    for index in range(2):
        (tmp_path / f"disk{index}").mkdir()
    program = "import runpy; runpy.run_module('semdlm_jax.train', run_name='__main__')"
    arguments = tmp_path / "disk", program, f"--config={config_file}", "--workdir=run"
    results = tiny.finished(tiny.started("-c", APART, *arguments, processes=2))
    for result, begin in zip(results, ("error: process 1: run", "error: run"), strict=True):
        tiny.assert_refused(result, f"{begin} does not show what process 0 writes there", "or an address on a store")
    assert not list(tmp_path.rglob("run/*"))


def test_a_score_is_that_of_one_process(one, tmp_path):
    """With weights cut over both; only the first writes and prints."""
    options = f"--workdir={one}", "--measures=likelihood", "--draws=2", "--output"
    together = tiny.started("-m", "semdlm_jax.evaluate", *options, tmp_path / "two.json", "--fsdp=-1", processes=2)
    first, second = tiny.finished(together)
    assert first.status == second.status == 0, (first, second)
    assert "NELBO" in first.out and "NELBO" not in second.out and "reading" not in second.err
    assert tiny.command("evaluate", *options, tmp_path / "one.json").status == 0
    two, alone = (json.loads((tmp_path / name).read_text()) for name in ("two.json", "one.json"))
    nelbo, wanted = (report["sections"]["likelihood"]["details"]["nelbo"] for report in (two, alone))
    assert nelbo == pytest.approx(wanted, rel=1e-6)


def listens(process):
    """Whether it has a handler of SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search("SigCgt:\\s*(\\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1


LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux what the process has got to")
PROGRAMS = [path for path in sorted((tiny.ROOT / "semdlm_jax").rglob("*.py")) if "cli.run(" in path.read_text()]


@LINUX
def test_asked_to_stop_while_libraries_are_imported():
    names = [".".join(path.relative_to(tiny.ROOT).with_suffix("").parts) for path in PROGRAMS if path.name != "cli.py"]
    assert {"semdlm_jax.train", "semdlm_jax.data.prepare", "semdlm_jax.semantics.inspect"} <= set(names)
    names = [*names, "benchmarks.bakeoff"]
    running = [tiny.started("-m", name)[0] for name in names]
    for index, one in enumerate(running):
        wait(lambda one=one: listens(one), [one])
        one.send_signal((signal.SIGTERM, signal.SIGINT)[index % 2])
    status = startup.STATUS[signal.SIGTERM], startup.STATUS[signal.SIGINT]
    for index, (name, result) in enumerate(zip(names, tiny.finished(running), strict=True)):
        assert result == (status[index % 2], "", startup.TOLD.decode()), name


@pytest.mark.parametrize(
    "signum, status, told",
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped on request: the work was not finished"),
    ],
)
def test_work_itself_is_interrupted(tmp_path, monkeypatch, signum, status, told):
    """What is under way then is cleared away."""
    former = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which those who run tests in parallel take away
    monkeypatch.setattr(startup, "_former", {})  # a training in this process has left its own there
    startup.leave_on_request()
    startup.leave_on_request()
    monkeypatch.setattr(load, "load_trained", lambda *_, **__: signal.raise_signal(signum))
    try:
        result = tiny.command("evaluate", f"--workdir={tmp_path}")
    finally:
        for signum, handler in zip((signal.SIGTERM, signal.SIGINT), former, strict=True):
            signal.signal(signum, handler)
    assert (result.status, result.err.splitlines()[-1]) == (status, told)


@LINUX
def test_asked_to_stop_before_the_first_step(config_file, tmp_path):
    running = tiny.started("-m", "semdlm_jax.train", f"--config={config_file}", f"--workdir={tmp_path}")
    wait(lambda: (tmp_path / "config.json").exists(), running)
    running[0].send_signal(signal.SIGTERM)
    (result,) = tiny.finished(running)
    assert result == (0, "", startup.TOLD.decode())
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} - {".training.lock"} == {"config.json"}
