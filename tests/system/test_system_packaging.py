"""What an installed package needs: its own configurations, by name, and packages that setup.py names."""

import ast
import importlib
import runpy
import sys
from types import SimpleNamespace

import pytest
import tiny
from packaging.requirements import Requirement

from semdlm_jax import extras
from semdlm_jax.experiment import configs, defaults, systems

# What mathematics and network may import; jax brings ml_dtypes.
BASE = {"jax", "flax", "numpy", "optax", "chex", "ml_dtypes"}
OPTIONAL = {"torch"}  # asked for where a file needs it


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another directory, that has a package `configs` of the user's own, and nothing to find the checkout by."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if path not in ("", str(tiny.ROOT)))])
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("name", configs.names())
def test_a_configuration_by_its_name(elsewhere, name):
    for option in ([f"--config={name}:list"], ["--config", f"{name}:list"]):
        result = tiny.command("train", *option)
        assert (result.status, result.err) == (0, "") and "semdlm_plus" in result.out


def test_an_unknown_name(elsewhere):
    for given, told in {
        "lm2b": "did you mean 'lm1b'",
        **dict.fromkeys(("configs/lm1b.py:mdlm", "", "configs"), "lm1b, openwebtext, quickstart"),
    }.items():
        result = tiny.command("train", f"--config={given}", "--workdir=run")
        tiny.assert_refused(result, f"--config={given.partition(':')[0]}: no such file", told)


def test_files_of_a_checkout(tmp_path, monkeypatch):
    """By their paths, and imported by a user's file, as before they were the package's."""
    monkeypatch.syspath_prepend(tiny.ROOT)
    for name in configs.names():
        file = importlib.import_module(f"configs.{name}")
        assert file.get_config is importlib.import_module(f"semdlm_jax.experiment.configs.{name}").get_config
    (tmp_path / "mine.py").write_text("from configs import base, systems\n")
    mine = runpy.run_path(str(tmp_path / "mine.py"))
    assert mine["base"].get_config is defaults.get_config
    assert (mine["systems"].apply, mine["systems"].SYSTEMS) == (systems.apply, systems.SYSTEMS)


def imported(path):
    """Names of the modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        yield from [node.module] if isinstance(node, ast.ImportFrom) else names


def test_setup_names_what_is_imported(monkeypatch):
    """In the extra of extras.py that holds it, and the locked version within its bounds."""
    given = {}
    setuptools = SimpleNamespace(setup=given.update, find_packages=lambda **_: [])
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    runpy.run_path(str(tiny.ROOT / "setup.py"))
    ours = extras.EXTRAS | extras.OPTIONAL
    known = BASE | OPTIONAL | {module.partition(".")[0] for modules in ours.values() for module in modules}
    package = [name.partition(".")[0] for path in (tiny.ROOT / "semdlm_jax").rglob("*.py") for name in imported(path)]
    assert set(package) - set(sys.stdlib_module_names) - {"semdlm_jax"} <= known
    lines = {"base": given["install_requires"], **given["extras_require"]}
    required = {extra: {one.name: one for one in map(Requirement, lines[extra])} for extra in lines}
    assert required["run"].keys() < required["data"].keys()
    for extra, modules in ours.items():
        assert set(modules.values()) <= required[extra].keys()
    for name, one in (required["base"] | required["data"]).items():
        (locked,) = required["locked"][name].specifier
        assert locked.operator == "==" and one.specifier.contains(locked.version), name
        assert "0" not in one.specifier, f"{name}: any release at all"


def test_a_missing_extra_is_told_before_any_import(monkeypatch, capsys):
    extras.require_for_program()
    monkeypatch.setitem(extras.EXTRAS, "run", {"absl": "absl-py", "no_such_module": "one", "no_such.inner": "two"})
    with pytest.raises(SystemExit) as end:
        extras.require_for_program()
    told = "error: this program needs one, two, not installed here: pip install 'semdlm_jax[run]'\n"
    assert (end.value.code, capsys.readouterr().err) == (2, told)


def test_the_doctor_lists_what_is_missing_of_all_extras(monkeypatch, capsys):
    monkeypatch.setitem(extras.EXTRAS, "run", {"absl": "absl-py", "no_such_module": "one", "no_such.inner": "two"})
    monkeypatch.setitem(extras.EXTRAS, "data", {"no_such_file": "three"})
    with pytest.raises(SystemExit) as end:
        extras.require_for_program("semdlm_jax.doctor")
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 1 and lines == [
        "missing: one, two: pip install 'semdlm_jax[run]'",
        "missing: three: pip install 'semdlm_jax[data]'",
    ]
