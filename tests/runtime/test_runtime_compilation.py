"""Where compiled programs are kept."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from semdlm_jax.runtime import compilation
from semdlm_jax.runtime.compilation import keep_programs, place

OPTIONS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    former = {name: jax.config.values[name] for name in OPTIONS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()
    yield
    for name, value in former.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compiled():
    jax.clear_caches()
    compilation_cache.reset_cache()
    return float(jax.jit(lambda x: jnp.sin(x) * 3 + 1)(2.0))


def test_programs_are_kept_and_damaged_ones_do_no_harm(tmp_path, recwarn):
    keep_programs()
    folder = place()
    assert folder.is_relative_to(tmp_path / "semdlm_jax" / "compiled")
    wanted, files = compiled(), sorted(folder.glob("*-cache"))
    assert files and f"{folder}, {len(files)} programs" in compilation.describe()
    for damaged in (b"", b"rot", files[0].read_bytes()[:-9]):
        for path in files:
            path.write_bytes(damaged)
        assert compiled() == wanted
    assert not recwarn.list


def test_the_oldest_go_where_there_are_too_many(monkeypatch):
    keep_programs()
    compiled()
    monkeypatch.setattr(compilation, "LARGEST", 0)
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert not list(place().glob("*-cache"))


def test_what_jax_was_told_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    keep_programs()
    assert place() == tmp_path / "own" and not (tmp_path / "semdlm_jax").exists()
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_programs()
    assert place() is None and not (tmp_path / "semdlm_jax").exists() and "none" in compilation.describe()


def test_a_place_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "semdlm_jax").write_text("")
    keep_programs()
    assert jax.config.values["jax_compilation_cache_dir"] is None
    told = capsys.readouterr().err
    assert told.startswith("note: compiled programs are not kept: ") and told.count("\n") == 1


def test_only_a_whole_path_counts(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place().is_relative_to(tmp_path / ".cache" / "semdlm_jax")
