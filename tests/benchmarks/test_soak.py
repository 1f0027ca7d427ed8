"""What the soak counts as a fault, and that its kills come at the call they are meant for."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.damage import WAYS
from benchmarks.soak.ground import Ground, fault_of
from benchmarks.soak.kills import _kind
from benchmarks.tiny_run import Result

WRITES = """
import pathlib, shutil, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "a").write_text("contents")
(folder / "a").rename(folder / "b")
(folder / "b").read_text()
folder.with_name("run2").mkdir()
shutil.rmtree(folder)
"""
CALLS = ["mkdir ", "open64 /a", "write /a", "rename /a", "unlinkat /b", "rmdir "]


@pytest.mark.parametrize(
    "result, held",
    [
        (Result(0, "", ""), True),
        (Result(2, "", "reading\nerror: no such run\n"), True),
        (Result(1, "", "error: the disk is full\n"), True),
        (Result(2, "", "no sentence\n"), False),
        (Result(2, "", "error: one\nerror: two\n"), False),
        (Result(1, "", "Traceback (most recent call last):\nerror: x\n"), False),
        (Result(0, "", "Traceback (most recent call last):\n"), False),
        (Result(3, "", "error: x\n"), False),
        (Result(-signal.SIGKILL, "", ""), False),
    ],
)
def test_what_is_a_fault(result, held):
    assert (fault_of(result) is None) == held


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and cc")
    bare = Ground.__new__(Ground)  # without the tiny run
    bare.folder = tmp_path_factory.mktemp("ground")
    return bare


@pytest.mark.parametrize("at", [0, 1, 3, 4, 6])
def test_a_kill_comes_at_its_call(ground, tmp_path, at):
    run, log = tmp_path / "run", tmp_path / "calls"
    command = [sys.executable, "-c", WRITES, str(run)]
    ended = subprocess.run(command, env=ground.watched(run, log, at), capture_output=True, text=True)
    assert ended.returncode == (-signal.SIGKILL if at else 0), ended.stderr
    assert log.read_text().splitlines() == CALLS[: at or None]
    there = {path.name: path.read_text() for path in run.iterdir()} if run.exists() else None
    assert there == {0: None, 1: None, 3: {"a": "cont"}, 4: {"a": "contents"}, 6: {}}[at]


def test_kinds_of_places():
    lines = ["open64 /.metrics.jsonl.partial-0123", "mkdir ", "mkdir /checkpoints", "write /checkpoints/3/state/d/x"]
    kinds = ["open metrics.jsonl", "mkdir the directory", "mkdir checkpoints", "write of a checkpoint"]
    assert list(map(_kind, lines)) == kinds


@pytest.mark.parametrize("way", WAYS)
def test_damage_changes_the_file(tmp_path: Path, way):
    path, content = tmp_path / "file", bytes(range(1, 100))
    path.write_bytes(content)
    WAYS[way](path, random.Random(0))
    assert not path.is_file() or path.stat().st_mode & 0o777 == 0 or path.read_bytes() != content
