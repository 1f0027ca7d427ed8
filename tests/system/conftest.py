import tempfile
from pathlib import Path

import pytest
import tiny
from stores import ADDRESSES

from semdlm_jax import remote

HERE = Path(__file__).parent
CACHE = tempfile.TemporaryDirectory(prefix="semdlm_jax_tests_")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """These tests are about whole programs, so compiling would be all their time."""
    if not item.path.is_relative_to(HERE):
        return (yield)
    with tiny.quick_compiler(CACHE.name):
        return (yield)


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    """The tiny configuration, its corpus prepared and its neighbor table built."""
    path = tiny.write_corpus(tmp_path_factory.mktemp("tiny"))
    for step in ("data.prepare", "semantics.build"):
        result = tiny.command(step, f"--config={path}")
        assert result.status == 0, result.err
    return path


@pytest.fixture(scope="session")
def whole_run(config_file, tmp_path_factory):
    """The work directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}")
    assert result.status == 0, result.err
    (workdir.parent / "told").write_text(result.out + result.err)
    return workdir


@pytest.fixture
def address():
    return next(ADDRESSES)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(name): from now on as on another machine, without the copies of this one."""

    def use(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        remote._COPIED.clear()

    use("first")
    return use
