"""A program whose reader goes away, whose terminal knows no letters, or whose log is on a full disk."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from semdlm_jax import cli, streams

def main():
    for line in range(20_000):
        print("“ü”", line)
        print("log", line, file=sys.stderr)
    with open(sys.argv[0], "w") as file:
        file.write(str(streams.nobody_reads()))

sys.argv = ["done"]
cli.run(main)
"""


def run(folder, shell="", **environment):
    """The program with redirections: (status, standard output, standard error, what it did at its end)."""
    command = f"'{sys.executable}' -c '{PROGRAM}' {shell}"
    environment = os.environ | environment
    result = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, timeout=60)
    return result.returncode, result.stdout, result.stderr.decode(), (folder / "done").read_text()


def test_letters_that_a_terminal_lacks_are_escaped(tmp_path):
    status, out, err, done = run(tmp_path, PYTHONIOENCODING="ascii")
    assert (status, done) == (0, "False") and out.startswith(b"\\u201c\\xfc\\u201d 0\n") and "log 19999" in err


def test_a_reader_that_has_seen_enough(tmp_path):
    status, out, err, done = run(tmp_path, "| head -1; exit ${PIPESTATUS[0]}")
    assert (status, done, len(out.splitlines())) == (0, "True", 1) and err.endswith("log 19999\n")
    status, out, err, done = run(tmp_path, "2>&1 | head -1; exit ${PIPESTATUS[0]}")
    assert (status, done, err) == (0, "True", "")


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(tmp_path, shell):
    status, out, err, done = run(tmp_path, shell)
    assert (status, done) == (0, "False")
    assert (out == b"") == (shell[0] == ">") and (err == "") == ("2>" in shell)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told_when_all_is_done(tmp_path):
    status, _, err, done = run(tmp_path, "> /dev/full")
    assert (status, done) == (1, "False")
    assert err.endswith(
        "log 19999\nerror: standard output: the disk is full: free space there, or choose another place\n"
    )
    assert run(tmp_path, "2> /dev/full")[0] == 0
