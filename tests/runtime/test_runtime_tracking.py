"""Weights & Biases, with a stand-in for its package."""

import sys

import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.metrics import MetricWriter
from semdlm_jax.runtime.tracking import Tracker

STAND_IN = """
begun, logged, finished, fails = [], [], [], []

class Run:
    def log(self, values, step):
        if "log" in fails:
            raise ConnectionError("no\\nnetwork")
        logged.append((step, values))

    def finish(self):
        finished.append(1)

def init(**options):
    if "init" in fails:
        raise RuntimeError("api_key not configured")
    begun.append(options)
    return Run()
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    import wandb

    yield wandb
    del sys.modules["wandb"]


def test_rows_go_there_and_a_second_start_continues(wandb, tmp_path):
    for start in (0, 2):
        tracker = Tracker("toy", tmp_path, {"seed": 1})
        writer = MetricWriter(tmp_path, start, also=tracker.write)
        for step in (1, 2):
            writer.write(start + step, {"loss": 0.5, "rate": float("nan")}, "train")
        writer.close()
        tracker.close()
    assert wandb.logged == [(step, {"train/loss": 0.5}) for step in (1, 2, 3, 4)] and len(wandb.finished) == 2
    first, second = wandb.begun
    assert first == second and first["resume"] == "allow" and first["config"] == {"seed": 1} and first["id"]
    assert Tracker("toy", tmp_path / "..", {}) and wandb.begun[2]["id"] != first["id"]  # another run's is another


def test_a_failure_ends_no_training(wandb, tmp_path):
    told = []
    tracker = Tracker("toy", tmp_path, {}, tell=told.append)
    wandb.fails.append("log")
    for step in (1, 2):
        tracker.write(step, {"train/loss": 0.5})
    tracker.close()
    assert len(told) == 1 and "takes nothing more (ConnectionError no network)" in told[0]
    wandb.fails.append("init")
    with pytest.raises(UserError, match="does not begin .*api_key not configured.*wandb login"):
        Tracker("toy", tmp_path, {})
