import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def unoptimized():
    """Compiling is nearly all the time that tests of so small a network take."""
    former = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", former)
