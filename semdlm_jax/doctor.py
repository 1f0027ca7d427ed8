"""Is everything here that a run needs? Versions, extras, devices, and what a configuration's run would find.

    python -m semdlm_jax.doctor
    python -m semdlm_jax.doctor --config=configs/lm1b.py --config.data.directory=data/lm1b

Writes nothing. Exit status 1 where something is missing, which a line beginning with `missing:` names with its mend.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator

import jax
from absl import flags

from semdlm_jax import cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.extras import EXTRAS, is_installed
from semdlm_jax.runtime import compilation

SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
MISSING = "missing: "


def environment() -> Iterator[str]:
    """Lines on versions, extras and devices."""
    yield f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
    for extra, modules in EXTRAS.items():
        absent = [package for module, package in modules.items() if not is_installed(module)]
        if absent:
            yield f"{MISSING}{', '.join(absent)}: pip install 'semdlm_jax[{extra}]'"
        else:
            yield f"extra {extra}: complete"
    devices = jax.devices()
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    room = f", {memory / 2**30:.1f} GiB each" if memory else ""
    yield f"{len(devices)} device{'s' * (len(devices) > 1)}: {devices[0].device_kind}{room}"
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if devices[0].platform == "cpu" and sys.platform == "linux" and not tuned:
        yield "GLIBC_TUNABLES is not set: `source launch/setup.sh` makes training on a CPU faster"
    yield f"compiled programs kept: {compilation.describe()}"


def of_run(config) -> Iterator[str]:
    """Lines on what a training of a configuration would find."""
    for what, find in (("mesh", _mesh), ("data", _data)):
        try:
            yield f"{what}: {find(config)}"
        except UserError as error:
            yield f"{MISSING}{what}: {error}"


def _mesh(config):
    return " x ".join(f"{axis}={size}" for axis, size in build.build_mesh(config).shape.items())


def _data(config):
    corpus = build_run_data(config)
    if corpus.prepared is None:
        return "synthetic tokens"
    sizes = {split: f"{len(tokens):,}" for split, tokens in corpus.prepared.splits.items()}
    held = ", ".join(f"{split} {size}" for split, size in sizes.items())
    return f"{config.data.directory}: tokens of {held}; vocabulary of {corpus.vocab_size:,}; a neighbor table"


def main(options):
    """Prints every line; SystemExit(1) where something is missing."""
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
