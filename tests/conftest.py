"""Shared by all rooms; its place also puts `toys` on the import path."""

import os
import pathlib
import tempfile

import jax
import pytest

# Where programs would keep what they compile; the user's own stays as it is.
CACHES = tempfile.TemporaryDirectory(prefix="semdlm_jax_caches_")
os.environ["XDG_CACHE_HOME"] = CACHES.name

# Files whose tests take minutes, which begin first: else one process would be at them long after the others have ended.
LONG = ("system", "benchmarks", "runtime")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.relative_to(config.rootpath / "tests").parts[0] not in LONG)


# A process may hold 65,530 mappings of memory under Linux, compiled programs take several each, and a compiler that
# gets none crashes.
MANY_MAPPINGS = 16_000


@pytest.fixture(autouse=True, scope="module")
def no_more_programs_than_fit():
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MANY_MAPPINGS:
        jax.clear_caches()


@pytest.fixture
def quick_compile():
    """Without the optimizations that cost small tests more time than they save."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def float64(quick_compile):
    """Double precision for one test only."""
    with jax.enable_x64(True):
        yield
