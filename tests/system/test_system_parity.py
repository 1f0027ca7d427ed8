"""The mesh, with dropout and attention by parts, and the number of microbatches change no loss and no gradient."""

import json
from pathlib import Path

import numpy as np
import tiny


def test_meshes_and_microbatches_agree(tmp_path):
    script = Path(__file__).with_name("eight_meshes.py")
    # This checkout, whatever is installed.
    flags = {"XLA_FLAGS": tiny.many_devices(8), "PYTHONPATH": str(tiny.ROOT)}
    run = tiny.python(script, tmp_path / "losses.json", **flags)
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "losses.json").read_text())
    one = results["one"]
    assert len(set(one["loss"])) == 5 and np.all(np.isfinite(one["loss"]))
    # Dropout changes them, and is the same on all meshes.
    assert abs(one["loss"][-1] - results["no dropout"]["loss"][-1]) > 1e-4
    for name, found in results.items():
        one = results["no dropout" if name in ("no dropout", "two microbatches") else "one"]
        np.testing.assert_allclose(found["loss"], one["loss"], atol=1e-5, rtol=0, err_msg=name)
        # The optimizer hides a gradient's scale from the loss.
        np.testing.assert_allclose(found["grad_norm"], one["grad_norm"], rtol=1e-3, err_msg=name)
    cut = {name: found["cut"] for name, found in results.items()}
    # Nothing to cut there; qkv, out, up, down, both modulations and both tables elsewhere.
    assert cut["one"] == cut["two microbatches"] == 0
    assert cut["(1, 8, 1)"] == cut["(2, 2, 2)"] == 8
