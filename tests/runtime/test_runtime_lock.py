"""One training a work directory: who comes second is told who was first; the dead hold nothing."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.runtime.lock import NAME, check_free, training_lock

HOLDER = """
import sys
from semdlm_jax import locks
with locks.locked(sys.argv[1], "process 1 on elsewhere"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_of_the_first(tmp_path):
    workdir = tmp_path / "runs" / "one"
    check_free(workdir)
    assert not workdir.exists()
    with training_lock(workdir):
        for refused in (lambda: training_lock(workdir).__enter__(), lambda: check_free(workdir)):
            with pytest.raises(UserError) as error:
                refused()
            assert f"process {os.getpid()} on {socket.gethostname()}" in str(error.value)
            assert str(workdir) in str(error.value)
        assert [path.name for path in workdir.iterdir()] == [NAME]
    assert list(workdir.iterdir()) == []
    check_free(workdir)


def test_a_lock_ends_with_its_process(tmp_path):
    (tmp_path / NAME).write_text("process 2 on a machine that went down")  # only a file
    check_free(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / NAME)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="process 1 on elsewhere"):
            check_free(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / NAME).exists()
    with training_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / NAME).read_text()


def test_a_lock_that_was_removed_is_told_and_that_of_another_stays(tmp_path):
    workdir = tmp_path / "run"
    with training_lock(workdir) as check:
        check()
        (workdir / NAME).rename(tmp_path / "lock")
        with pytest.raises(StorageError, match="run was removed or moved.*put it back"):
            check()
        (tmp_path / "lock").rename(workdir / NAME)
        check()
        workdir.rename(tmp_path / "moved")
        with training_lock(workdir) as other:
            with pytest.raises(StorageError):
                check()
            other()
        (workdir / NAME).write_text("another one's")
    assert (workdir / NAME).read_text() == "another one's"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be written"):
        training_lock(tmp_path / "file" / "run").__enter__()
