"""Reports whether a run finds here what it needs: versions, extras, devices, and the data of a configuration.

    python -m semdlm_jax.doctor
    python -m semdlm_jax.doctor --config=configs/lm1b.py --config.data.directory=data/lm1b

Everything that is missing is listed, each in a line that begins with `missing:` and says how to get it; the exit status
is then 1. Nothing is written.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags

from semdlm_jax import checks, cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.extras import EXTRAS, MISSING, incomplete, is_installed
from semdlm_jax.kernels import KERNELS
from semdlm_jax.options import counted
from semdlm_jax.runtime import compilation
from semdlm_jax.semantics.table import read_table, table_path

SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def environment() -> Iterator[str]:
    """Lines on versions, extras and devices."""
    yield f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
    yield from (f"extra {name}: complete" for name, modules in EXTRAS.items() if all(map(is_installed, modules)))
    yield from (f"{MISSING}{line}" for line in incomplete())
    devices = jax.devices()
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    room = f", {memory / 2**30:.1f} GiB each" if memory else ""
    yield f"{counted(len(devices), 'device')}: {devices[0].device_kind}{room}"
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if devices[0].platform == "cpu" and sys.platform == "linux" and not tuned:
        yield "GLIBC_TUNABLES is not set: `source launch/setup.sh` makes training on a CPU faster"
    yield f"compiled programs kept: {compilation.describe()}"


def of_run(config: Any) -> Iterator[str]:
    """Lines on what a training with this configuration would find."""
    told = set()
    for what, find in (("mesh", _mesh), ("data", _data), ("neighbor table", _table)):
        try:
            yield f"{what}: {find(config)}"
        except UserError as error:
            if str(error) not in told:  # the data cannot be opened with a damaged table either
                yield f"{MISSING}{what}: {config_flag.spelled(str(error), sys.argv)}"
            told.add(str(error))


def _mesh(config):
    return " x ".join(f"{axis}={size}" for axis, size in build.build_mesh(config).shape.items())


def _table(config):
    if config.data.corpus == "synthetic":
        return "made with the synthetic tokens"
    path, used = table_path(config), checks.chosen(config, KERNELS)
    kinds = [KERNELS.find(name) for name in used]
    needed = any(kind.needs_neighbors or kind.needs_partitions for kind in kinds)
    if not (needed or config.semantics.table or path.exists()):
        return f"none, and {f'kernel {used[0]}' if used else 'this objective'} needs none"
    table, _, _ = read_table(path)
    levels = "none" if table.partitions is None else ", ".join(map(str, table.partitions.max(1)))
    return f"{path}: up to {table.ids.shape[1]} neighbors a token; blocks of its partitions: {levels}"


def _data(config):
    corpus = build_run_data(config)
    if corpus.prepared is None:
        return "synthetic tokens"
    sizes = {split: f"{len(tokens):,}" for split, tokens in corpus.prepared.splits.items()}
    held = ", ".join(f"{split} {size}" for split, size in sizes.items())
    return f"{config.data.directory}: tokens of {held}; vocabulary of {corpus.vocab_size:,}"


def main(options: Any) -> None:
    """Prints all lines; SystemExit(1) if anything is missing."""
    failed = False
    lines = [environment()] + ([of_run(options.config)] if options.config is not None else [])
    for part in lines:
        for line in part:
            print(line, flush=True)
            failed |= line.startswith(MISSING)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    config_flag.define_config_flag()
    cli.run(lambda: main(flags.FLAGS), required=[])
