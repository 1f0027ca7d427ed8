"""launch/setup.sh, with an interpreter of the test's own in Python's place."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "launch" / "setup.sh"
SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]
# `-m venv DIR` makes DIR/bin/python, which is this program again; `-m pip install` fails while fail/ is there.
PYTHON = """#!/bin/sh
case "$*" in
  *venv*) for venv; do :; done; mkdir -p "$venv/bin"; cp "$0" "$venv/bin/python" ;;
  *install*) echo "$*" >> "{folder}/installs"; [ ! -e "{folder}/fail" ] ;;
esac
"""


@pytest.fixture(params=SHELLS)
def source(request, tmp_path):
    """A function () -> (status, standard error, PATH, GLIBC_TUNABLES) of sourcing it from another directory."""
    checkout, python = tmp_path / "a checkout", tmp_path / "python"
    (checkout / "launch").mkdir(parents=True)
    shutil.copy(SETUP, checkout / "launch")
    (checkout / "setup.py").touch()
    python.write_text(PYTHON.format(folder=tmp_path))
    python.chmod(0o755)
    script = f'source "{checkout}/launch/setup.sh" >/dev/null; echo "$?|$PATH|${{GLIBC_TUNABLES:-}}"'
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), "CDPATH": str(tmp_path)}

    def source():
        done = subprocess.run([request.param, "-c", script], cwd="/", env=environment, capture_output=True, text=True)
        return *done.stdout.strip().split("|"), done.stderr

    return source


def test_a_failed_installation_never_looks_done(source, tmp_path):
    """Nor does one of another setup.py, or of another place."""
    (tmp_path / "fail").mkdir()
    for _ in range(2):
        status, path, tunables, told = source()
        assert (status, path, tunables) == ("1", os.environ["PATH"], "") and "could not be created" in told
    (tmp_path / "fail").rmdir()
    installs, checkout = tmp_path / "installs", tmp_path / "a checkout"
    for _ in range(2):  # the second has nothing to do
        status, path, tunables, told = source()
        assert (status, told) == ("0", "") and "glibc" in tunables
        assert path == f"{checkout}/.venv/bin:{os.environ['PATH']}"
        (line,) = installs.read_text().splitlines()[2:]
        assert line.endswith(f"-e {checkout}[locked,test]")
    for count, text in enumerate(("other", ""), start=4):  # also where the first is back
        (checkout / "setup.py").write_text(text)
        assert source()[0] == "0" and len(installs.read_text().splitlines()) == count
    (checkout / ".venv" / "bin" / "python").unlink()
    assert source()[0] == "0" and len(installs.read_text().splitlines()) == 6


def test_an_interpreter_that_is_not_there(source, tmp_path):
    (tmp_path / "python").unlink()
    status, path, _, told = source()
    assert (status, path) == ("2", os.environ["PATH"]) and "set PYTHON to a newer one" in told
