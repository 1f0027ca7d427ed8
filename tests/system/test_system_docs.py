"""The documentation: its pages are built without a warning, and the commands in it are commands."""

import re
import shlex
import subprocess
import sys

import pytest
import tiny

from semdlm_jax.keys import KEYS

PAGES = [tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
# (program, what it is to do) -> {(page, flag)}, of the lines `python -m semdlm_jax.program … --flag=…`.
OWN = {"config.kernel.share", "config.objective.focus", "config.data.below", "config.data.backwards", "waiting"}
EXAMPLES = sorted((tiny.ROOT / "docs" / "examples").glob("*.py"))
COMMANDS = {}
for _page in PAGES:
    for _line in re.findall(r"^    python -m semdlm_jax\.(.*)$", _page.read_text(), re.M):
        _program, *_words = shlex.split(_line)
        _flags = {word[2:].partition("=")[0] for word in _words if word.startswith("--")}
        COMMANDS.setdefault(_program, set()).update((_page.name, flag) for flag in _flags)


def test_the_pages_are_built(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path}/site"]
    built = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    shown = {page.parent.name: re.sub("<[^>]*>", "", page.read_text()) for page in tmp_path.glob("site/*/index.html")}
    for example in EXAMPLES:
        title = re.match('"""(.*?)(?:"""|$)', example.read_text(), re.M)[1]
        assert title in shown["python" if example.stem == "own_loop" else "extending"], example


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_have_the_flags_that_pages_show(command):
    """Whatever a page puts behind `--` is a key, or stands in the program's own help; OWN are options of a page's own
    plug-ins."""
    shown = tiny.command(command, "--help").out
    known = OWN | {f"config.{key}" for key in KEYS} | set(re.findall(r"--([a-z_]+)", shown))
    assert {(page, flag) for page, flag in COMMANDS[command] if flag not in known} == set()
