"""Who may import whom: rooms stay apart so that each can be read, and changed, alone."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "semdlm_jax"
MATHEMATICS = {"kernels", "objectives", "samplers", "theory"}
# What every room may import: to raise a UserError, ask for an extra, read neighbor lists both ways, write files, lock
# them, copy them from a store, check options, be a plug-in, read what had another name, and compute an entropy.
LEAVES = {
    "errors",
    "extras",
    "neighbor_lists",
    "storage",
    "locks",
    "remote",
    "options",
    "plugins",
    "former",
    "entropy",
    "users_code",
}
# What each room may import of the package beside these and itself.
ROOMS = {
    "kernels": set(),
    "objectives": {"kernels"},
    "samplers": {"kernels", "objectives"},
    "theory": {"kernels"},
    "network": set(),
    "data": {"cli", "config_flag", "keys"},
    "semantics": {"cli", "config_flag", "data", "record", "runtime"},
    "runtime": set(),
    "evaluation": MATHEMATICS,
    "scorers": {"data", "experiment", "network", "objectives", "runtime", "semantics"},
    "report": {"evaluation", "theory"},
    "trace": set(),
    "errors": set(),
    "extras": set(),
    "neighbor_lists": set(),
    "storage": set(),
    "locks": set(),
    "remote": set(),
    "options": set(),
    "plugins": set(),
    "former": set(),
    "entropy": set(),
    "users_code": set(),
    "core_keys": {"data.corpora"},
    "keys": MATHEMATICS | {"core_keys", "runtime", "semantics.settings", "data.corpora", "data.tokenizers"},
    "record": {"keys", "runtime"},
    "owned": set(),
    "config_flag": {"keys", "experiment.configs"},
    "help_text": {"keys"},
    "cli": {"config_flag", "help_text", "keys", "models", "owned", "streams", "runtime"},
    "models": set(),
    "workplace": {"runtime"},
    "__init__": {"runtime"},  # nothing but runtime/startup.py and extras.py
    "streams": set(),
}
# Where the rooms meet.
PROGRAMS = {"train", "evaluate", "compare", "generate", "export", "doctor", "theory.__main__"}
IN_PYTHON = {"generator", "scores", "model", "subject", "zero_shot"}
MEETING = {"experiment", "checks", "continuing", "parent", "dry_run", "train_step"} | IN_PYTHON | PROGRAMS
# Packages that only one place may know, and all that mathematics may: those and what is Python's own, but no files.
ONLY_IN = {"flax": ["network"], "orbax": ["runtime/checkpoint"], "ml_collections": ["config_flag.py", "experiment/"]}
IN_MATHEMATICS = {"semdlm_jax", "jax", "numpy", "chex", *sys.stdlib_module_names} - {"pathlib", "os"}


def imports(path):
    """(line, dotted name) of every import of a file; `from a import b` gives a.b as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def room(path):
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return f"{first}.__main__" if path.name == "__main__.py" else first  # the program of a room stands outside of it


def within(name, rooms):
    """Whether a dotted name is one of `rooms` or lies in one."""
    return any(f"{name}.".startswith(f"{one}.") for one in rooms)


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_its_rule():
    assert {room(path) for path in FILES} == ROOMS.keys() | MEETING


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    here, wrong = room(path), []
    for line, name in imports(path):
        top, *rest = name.split(".")
        if top == "semdlm_jax" and here not in MEETING and not within(".".join(rest), ROOMS[here] | {here} | LEAVES):
            wrong.append(f"{path}:{line}: {here} must not import {name}")
        places = ONLY_IN.get(top)
        if places and not any(path.relative_to(PACKAGE).as_posix().startswith(place) for place in places):
            wrong.append(f"{path}:{line}: only {' and '.join(places)} may import {top}")
        if here in MATHEMATICS and top not in IN_MATHEMATICS:
            wrong.append(f"{path}:{line}: mathematics must not import {top}")
    assert not wrong, "\n".join(wrong)
