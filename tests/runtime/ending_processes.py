"""Run by test_runtime_processes: one of two processes that work in step until asked to stop, or one is gone."""

import sys
import time

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.mesh import make_mesh, place_batch
from semdlm_jax.runtime.preemption import GracefulStop


def main():
    distributed.start(stops=True)
    print(f"only the first process prints, of {jax.process_count()}")
    mesh = make_mesh(2, 1, 1)
    total = jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    batch = place_batch({"x": np.ones(2, np.float32)}, mesh)
    with GracefulStop() as stop:
        for step in range(1000):
            if stop.agreed():
                break
            assert float(total(batch["x"])) == 2
            print(f"step {step}", file=sys.stderr, flush=True)
            time.sleep(0.05)


if __name__ == "__main__":
    with distributed.ends_together():
        main()
