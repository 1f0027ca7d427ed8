"""Mesh errors here; shardings on 8 simulated devices in a process of their own (the count is fixed at start-up)."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.mesh import check_batch, make_mesh, place_batch


def test_mesh_takes_the_rest_and_refuses_misfits():
    assert dict(make_mesh(-1, 1, 1, jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    for sizes, words in (
        ((2, 3, 1), "data=2 x fsdp=3 x tensor=1 needs 6 devices, and JAX has 1 device here"),
        ((-1, 2, 1), "needs a multiple of 2 devices, and JAX has 1 device here"),
        ((-1, -1, 1), "at most one"),
        ((0, 1, 1), "at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            make_mesh(*sizes, jax.devices()[:1])


def test_batch_must_divide():
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    check_batch(12, 4, mesh)
    with pytest.raises(UserError, match="multiple of 5, e.g. 10"):
        check_batch(12, 5, mesh)
    with pytest.raises(UserError, match="0 microbatches"):
        check_batch(12, 0, mesh)


def test_placed_batch_is_the_batch():
    batch = {"tokens": np.arange(12).reshape(4, 3), "weights": np.ones((4, 3), np.float32)}
    placed = place_batch(batch, make_mesh(1, 1, 1, jax.devices()[:1]))
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)


@pytest.mark.parametrize(
    "script, flags",
    [("eight_devices.py", "--xla_force_host_platform_device_count=8"), ("two_processes.py", "")],
)
def test_many_devices(script, flags, tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()  # XLA takes a blank for the name of a file
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, str(Path(__file__).with_name(script)), str(tmp_path)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
