"""Metric files across a resume, progress lines, and the stop flag."""

import io
import json
import os
import signal

import pytest
from tensorboardX.proto.event_pb2 import Event

from semdlm_jax.runtime import progress as progress_module
from semdlm_jax.runtime.metrics import MetricWriter
from semdlm_jax.runtime.preemption import GracefulStop
from semdlm_jax.runtime.progress import Progress


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_of_a_resumed_run_appear_once(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3, 4):
        writer.write(step, {"loss": 10.0 - step, "rate": float("inf")}, prefix="train")
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "tra')  # killed while writing
    writer = MetricWriter(tmp_path, start_step=2)
    writer.write(3, {"train/loss": 0.5})
    found = rows(tmp_path)
    writer.close()
    assert [(row["step"], row["train/loss"]) for row in found] == [(1, 9.0), (2, 8.0), (3, 0.5)]
    assert found[0]["train/rate"] is None and found[0]["time"] > 1.6e9


def test_tensorboard_gets_the_same_numbers(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(7, {"loss": 1.25, "bad": float("nan")}, prefix="eval")
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):  # records: length u64, its crc u32, bytes, their crc u32
        size = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + size
    assert found == [(7, "eval/loss", 1.25)]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_progress_lines_in_a_log(clock, capsys):
    with Progress(100, initial=10, units_per_step=500, label="train") as progress:
        assert capsys.readouterr().err == "train 10/100\n"  # a compilation may follow
        for step in range(11, 51):
            progress.update(step, loss=2.0)
            clock[0] += 60 if step == 11 else 1  # the second step waits for a compilation
        progress.write("saved")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train 11/100, loss 2"
    assert lines[1].startswith("train 12/100, loss 2, 8.33 tok/s")
    steps = [int(line.split()[1].split("/")[0]) for line in lines if line.startswith("train")]
    assert steps == [11, 12, 22, 32, 42, 50]
    assert "saved" in lines


def test_progress_rate_and_time_left(clock, capsys):
    progress = Progress(100, units_per_step=500)
    progress.update(1)
    clock[0] += 20
    progress.update(11)
    assert capsys.readouterr().err.splitlines()[2] == "11/100, 250 tok/s, 02:58 left"


def test_progress_bar_on_a_terminal(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(20, units_per_step=500, label="train") as progress:
        progress.update(1)
        clock[0] += 20
        progress.update(11, loss=1.5)
        progress.write("a line of its own")
    shown = terminal.getvalue()
    assert "11/20" in shown and "loss 1.5, 250 tok/s, 00:18 left" in shown and "a line of its own\n" in shown


def test_stop_flag_and_former_handlers():
    former = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == former
