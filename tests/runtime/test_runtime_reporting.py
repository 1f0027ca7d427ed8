"""Metric files across a resume, progress lines, and the stop flag."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.records import points
from semdlm_jax.errors import StorageError, UserError
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


ROW = '{"step": %d, "time": 1.0, "train/loss": 2.0}'


@pytest.mark.parametrize(
    "line, told",
    [
        ('{"step": 2, "tra', 0),  # the last one of a killed run
        ('{"step": 2, "tra' + ROW % 2 + "\n", 0),  # and one that somebody wrote after it
        (ROW % 2, 0),  # killed before the end of the line
        ("a note\n", 1),
        ("[1, 2]\n3\nnull\n", 3),
        ('{"epoch": 1}\n{"step": "2"}\n{"step": true}\n', 3),
        ("[" * 100_000 + "\n", 1),
        (b"\xff\x00\xfe\n", 1),
        ("\n  \n", 0),
    ],
)
def test_lines_that_are_no_rows(tmp_path, line, told):
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "metrics.jsonl").write_bytes((ROW % 1).encode() + b"\n" + line)
    reports = []
    writer = MetricWriter(tmp_path, start_step=2, report=reports.append)
    writer.write(3, {"train/loss": 1.0})
    writer.close()
    kept = [1, 2, 3] if (ROW % 2).encode() in line else [1, 3]
    assert [row["step"] for row in rows(tmp_path)] == kept
    assert len(reports) == (told > 0) and all(
        f"had {told} line{'s' * (told > 1)} without metrics" in report for report in reports
    )


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_places_that_cannot_be_written(tmp_path, name):
    (tmp_path / name).mkdir() if name == "metrics.jsonl" else (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"{name}: .*(directory|exists)"):
        MetricWriter(tmp_path)


def test_a_row_that_finds_no_room_is_not_begun(tmp_path):
    writer, limit = MetricWriter(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    writer.write(1, {"loss": 1.0})
    size = (tmp_path / "metrics.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limit[1]))
    try:
        with pytest.raises(StorageError, match="step 2 could not be written in .*File too large"):
            writer.write(2, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    writer.close()
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_tensorboard_has_each_row_at_once(tmp_path):
    """Nothing is lost of a run that is killed between two rows."""
    writer = MetricWriter(tmp_path)
    writer.write(7, {"loss": 1.25, "bad": float("nan")}, prefix="eval")
    assert points(tmp_path) == ([(7, "eval/loss", 1.25)], [1])
    again = MetricWriter(tmp_path, start_step=7)  # within the same second
    again.write(8, {"loss": 1.5}, prefix="eval")
    assert points(tmp_path) == ([(7, "eval/loss", 1.25), (8, "eval/loss", 1.5)], [1, 8])
    again.close()
    writer.close()


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
    assert lines[1].startswith("train 12/100, loss 2, 8.33 tok/s overall")
    steps = [int(line.split()[1].split("/")[0]) for line in lines if line.startswith("train")]
    assert steps == [11, 12, 22, 32, 42, 50]
    assert "saved" in lines


def test_progress_rate_and_time_left(clock, capsys):
    progress = Progress(100, units_per_step=500)
    progress.update(1)
    clock[0] += 20
    progress.update(11)
    assert capsys.readouterr().err.splitlines()[2] == "11/100, 250 tok/s overall, 02:58 left"


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
    assert "11/20" in shown and "loss 1.5, 250 tok/s overall, 00:18 left" in shown and "a line of its own\n" in shown


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


def test_a_start_does_not_wait_for_pytorch(tmp_path):
    """tensorboardX imports it where it is installed: here one that ends the program."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    code = "import semdlm_jax.runtime.metrics, sys; sys.exit('torch' in sys.modules)"
    paths = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=True)
