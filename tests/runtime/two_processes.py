"""Run by test_runtime_mesh: two JAX processes of one device each share a batch, a checkpoint and a damaged one."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.mesh import batch_sharding, make_mesh, place_batch


def worker(folder, port, index):
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    mesh = make_mesh(2, 1, 1)
    rows = place_batch({"x": np.full((2, 3), index, np.float32)}, mesh)["x"]
    assert rows.shape == (4, 3) and float(jax.jit(jnp.sum)(rows)) == 6.0

    reports = []
    checkpointer = Checkpointer(folder, report=reports.append)
    for step in (1, 2):
        checkpointer.save(step, {"x": rows + step})
    checkpointer.wait()
    if index == 0:
        (Path(folder) / "2" / "state" / "_METADATA").unlink()
    abstract = {"x": jax.ShapeDtypeStruct((4, 3), jnp.float32, sharding=batch_sharding(mesh))}
    state, step = checkpointer.restore(abstract)
    assert step == 1 and len(reports) == (index == 0), (step, reports)
    np.testing.assert_array_equal(state["x"].addressable_shards[0].data, np.full((2, 3), index + 1))
    checkpointer.close()
    assert sorted(path.name for path in Path(folder).iterdir()) == ["1", "2.corrupt"]


def main(folder):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    workers = [subprocess.Popen([sys.executable, __file__, folder, str(port), str(index)]) for index in range(2)]
    sys.exit(max(abs(one.wait()) for one in workers))


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else worker(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
