"""Run by test_runtime_mesh: two JAX processes of one device each share a batch, a checkpoint and a damaged one."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.lock import training_lock
from semdlm_jax.runtime.mesh import batch_sharding, local_rows, make_mesh, place_batch, place_local
from semdlm_jax.runtime.processes import barrier, check_everywhere, check_same


def worker(folder, port, index):
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    check_same({"seed": 1, "steps": [2, 3]})
    try:
        check_same({"seed": index, "steps": [2, 3]})
    except UserError as error:
        assert "differ (process 1: seed is 1, in process 0 0):" in str(error), error
    else:
        raise AssertionError("two seeds in one run")
    mesh, batch = make_mesh(2, 1, 1), np.arange(12, dtype=np.float32).reshape(4, 3)
    whole, both = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec())), range(4)
    for one, held in ((mesh, ((0, 1), (2, 3))[index]), (make_mesh(1, 1, 2), both)):
        np.testing.assert_array_equal(local_rows(4, one), held)
        for placed in (place_batch({"x": batch}, one), place_local({"x": batch[list(held)]}, 4, one)):
            np.testing.assert_array_equal(whole(placed["x"]), batch)
    rows = place_batch({"x": np.repeat(np.float32([0, 0, 1, 1])[:, None], 3, 1)}, mesh)["x"]

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
    # The other process may have its lock there already.
    assert sorted(path.name for path in Path(folder).iterdir() if path.name[0] != ".") == ["1", "2.corrupt"]
    of_one(folder, index, rows, abstract)
    with training_lock(folder):
        try:
            training_lock(folder).__enter__()
        except UserError as error:  # on both
            assert "is being trained by process" in str(error)
        else:
            raise AssertionError("two hold one lock")


def of_one(folder, index, rows, abstract):
    """On a disk each, process 0 writes what process 1 copies: there one bit is another."""
    from toy_checkpoints import flip, largest  # which asks for devices

    reports, (own, copy) = [], (Path(f"{folder}-{index}"), Path(f"{folder}-1"))
    checkpointer = Checkpointer(own, report=reports.append, shared=False)
    for step in (1, 2):
        checkpointer.save(step, {"x": rows + step})
    checkpointer.wait()

    def copied():
        if index == 1:
            raise UserError("the disk is full")

    try:
        check_everywhere(copied)
    except UserError as error:
        assert str(error) == ("process 1: " if index == 0 else "") + "the disk is full", error
    else:
        raise AssertionError("process 1 failed alone")
    if index == 0:
        shutil.copytree(own, copy)
        flip(largest(copy / "2" / "state"))
    barrier("copied")
    state, step = checkpointer.restore(abstract)
    assert step == 1 and [line for line in reports if "(process 1: state/" in line] == reports, (step, reports)
    assert len(reports) == (index == 0), reports
    np.testing.assert_array_equal(state["x"].addressable_shards[0].data, np.full((2, 3), index + 1))
    checkpointer.close()


def main(folder):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    workers = [subprocess.Popen([sys.executable, __file__, folder, str(port), str(index)]) for index in range(2)]
    try:
        sys.exit(max(abs(one.wait(timeout=200)) for one in workers))
    finally:
        for one in workers:  # that wait for each other
            one.kill()


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else worker(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
