"""The examples in the docstrings of what users call."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["kernels.named", "kernels.protocol", "samplers.controls", "samplers.loop", "samplers.time_grid"]
)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(f"semdlm_jax.{module}"))
    assert found.attempted and not found.failed
