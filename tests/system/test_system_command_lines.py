"""Every option has its line in the one table, and every value that it cannot have is refused in one sentence."""

import re
import sys

import pytest
import tiny

from benchmarks.command_lines import bad_values, cases
from semdlm_jax import cli
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults
from semdlm_jax.keys import FLAGS, KEYS, SAMPLING, check_config
from semdlm_jax.options import nest

OPTIONS = {**FLAGS, **SAMPLING, **KEYS}


def test_the_table_is_the_configuration():
    assert tiny.flat(defaults.get_config()) == {key: option.default for key, option in KEYS.items()}
    for key, option in OPTIONS.items():
        option.check(key, option.default)
        assert option.default is None or type(option.default) is option.kind, key
        assert option.meaning and "\n" not in option.meaning, key


@pytest.mark.parametrize("key", OPTIONS)
def test_a_value_that_an_option_cannot_have(key):
    for value in bad_values(OPTIONS[key]):
        with pytest.raises(UserError, match=f"^{key} = ") as error:
            OPTIONS[key].check(key, value)
        assert len(str(error.value)) < 500 and "\n" not in str(error.value)
        if key in KEYS:
            with pytest.raises(UserError):
                check_config(nest({key: value}), needs=[key])


def test_every_flag_has_its_line():
    """But for free text, and for those that absl itself checks: switches and names."""
    defined = set()
    for path in (tiny.ROOT / "semdlm_jax").rglob("*.py"):
        defined |= set(re.findall(r'DEFINE_(?:integer|float|string)\(\s*"(\w+)"', path.read_text()))
    assert {"seed", "workdir", "shown"} <= defined
    assert {name for name in defined if cli.option_of(name) is None} == {"prompt", "suffix", "dataset"}


def test_command_lines(config_file, tmp_path, monkeypatch):
    """More than a thousand, before anything is compiled or written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases").mkdir()
    every = list(cases(config_file, tmp_path / "cases"))
    assert len(every) > 1000
    for case in every:
        sys.modules.pop("config_config", None)  # what another process would not have
        result = tiny.command(case.module, *case.arguments)
        (line,) = [line for line in result.err.splitlines() if not line.startswith("reading ")]
        assert result.status == 2 and not result.out and line.startswith("error: ") and case.word in line, (
            case,
            result,
        )
    beside = {path.name for path in (tmp_path / "cases").iterdir() if path.suffix != ".py"}
    assert beside <= {"__pycache__"}  # Python's own, of the configurations that it reads
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]


def test_a_path_from_home(config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("~/none", "$HOME/none", "${HOME}/none"):
        tiny.assert_refused(tiny.command("evaluate", f"--workdir={given}"), f"{tmp_path}/none holds no config.json")
        arguments = [f"--config={config_file}", f"--workdir={given}", f"--config.data.directory={given}"]
        tiny.assert_refused(tiny.command("train", *arguments), f"{tmp_path}/none: no prepared data")
    (tmp_path / "own.py").write_text(config_file.read_text().replace("return", "config.seed = -1\n    return"))
    tiny.assert_refused(tiny.command("train", "--config=~/own.py", "--workdir=~/run"), "seed = -1")


def test_help_names_every_key():
    shown = tiny.command("train", "--help").out
    assert [key for key, option in KEYS.items() if f"\n  {key}={option.default}\n" not in shown] == []
    assert "data.length" in (prepare := tiny.command("data.prepare", "--help").out) and "kernel.gamma" not in prepare


OWN = """
import dataclasses
from semdlm_jax.kernels import KernelSpec
from semdlm_jax.options import number
from semdlm_jax.plugins import field

@dataclasses.dataclass(frozen=True)
class Slow(KernelSpec):
    slowness: float = field(number(3.0, "[1, 9]", "of all changes"))

    def build(self, vocabulary):
        raise NotImplementedError("help builds nothing")
"""


def test_help_shows_the_values_of_a_configuration(config_file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kernel_of_help.py").write_text(OWN)
    arguments = [f"--config={config_file}:mdlm", "--config.kernel.name=kernel_of_help:Slow"]
    shown = tiny.command("train", *arguments, "--help").out
    assert "\n  kernel.schedule.name=loglinear\n" in shown and "or module:Class; default: linear\n" in shown
    assert "\n  data.length=16\n" in shown and "\n  kernel.slowness=3.0\n      of all changes; [1, 9]" in shown
