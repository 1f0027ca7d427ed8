"""What the devices of a mesh send each other in a training step, and what share of its time that may take.

    python -m benchmarks.collectives                                 the meshes of benchmarks/results/collectives.md
    python -m benchmarks.collectives --mesh=1x8x1 --name=lm1b --batch_size=1024

The step is compiled for simulated devices of the CPU, from abstract arrays: nothing is computed. Bytes are those of the
collectives in the compiled program, times how often their loops run. They are counted as one device sends them on a
ring of n: a sum of B bytes (all-reduce) 2 (n - 1) / n B; B bytes gathered, or scattered sums of B bytes, or an exchange
of B bytes (all-to-all), (n - 1) / n B; a permutation B.

Times are projected, not measured: bytes over the published bandwidth of the slowest link of a ring, and the time of the
step from a speed that was measured on one card, or assumed (see HARDWARE). The compiler for CPUs sends float32 where
others may send bfloat16, and never makes a reduce-scatter of a sum of which each device keeps a part: these bytes are
upper bounds for accelerators.
"""

import collections
import importlib
import math
import os
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from semdlm_jax import cli
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.runtime.mesh import batch_sharding, make_mesh
from semdlm_jax.runtime.state import abstract_state
from semdlm_jax.train_step import configured_step

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """size: bytes of the result on a device. groups: [G, n] device numbers. times: in a call of the program."""

    kind: str
    size: int
    groups: np.ndarray
    times: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends, in all calls."""
        n = self.groups.shape[1]
        share = {"all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1.0, "collective-permute": 1.0}
        return self.times * self.size * share.get(self.kind, (n - 1) / n)


def collectives(program: str, devices: int) -> list[Collective]:
    """Those of a compiled program, from its text. ValueError: a loop around one has no known number of turns."""
    calls, found = collections.defaultdict(list), []
    for place, line in _lines(program):
        trips = _TRIPS.search(line)
        turns = int(trips[1]) if trips else math.nan if " while(" in line else 1
        names = _CALLED.findall(line) + [
            name for names in _BRANCHES.findall(line) for name in re.findall(r"[\w.\-]+", names)
        ]
        for name in names:
            calls[name].append((place, turns))
        if collective := _COLLECTIVE.search(line):
            shape, kind, asynchronous = collective.groups()
            if asynchronous:
                raise ValueError(f"an asynchronous collective, which compilers for CPUs do not make: {line:.200}")
            found.append((place, kind, _size(shape), _groups(line, devices)))

    def times(place):
        return sum(turns * times(caller) for caller, turns in calls[place]) if calls[place] else 1

    counted = [(kind, size, groups, times(place)) for place, kind, size, groups in found]
    if any(math.isnan(number) for *_, number in counted):
        raise ValueError("a loop with collectives has no known number of turns")
    return [
        Collective(kind, size, groups, int(number)) for kind, size, groups, number in counted if groups.shape[1] > 1
    ]


def _lines(program):
    """(computation, line) of every instruction."""
    place = ""
    for line in program.splitlines():
        if begins := _COMPUTATION.match(line):
            place = begins[1]
        elif " = " in line:
            yield place, line


def _size(shape):
    """Bytes of a type, which may be a tuple: f32[2,3]{1,0}."""
    shapes = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(BYTES[kind] * math.prod(int(size) for size in sizes.split(",") if size) for kind, sizes in shapes)


def _groups(line, devices):
    """[G, n] of the three ways in which groups are written, and of pairs."""
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", line):
        return np.array([[int(number) for number in re.findall(r"\d+", pair)] for pair in pairs[1].split("},")])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", line):
        axes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        order, wanted = (
            _iota(mesh[2]) if mesh[2] else np.arange(math.prod(axes.values())),
            re.findall(r"'(\w+)'", mesh[3]),
        )
        rest = [name for name in axes if name not in wanted]
        numbers, names = order.reshape(tuple(axes.values())), list(axes)
        return numbers.transpose([names.index(name) for name in (*rest, *wanted)]).reshape(
            -1, math.prod(axes[name] for name in wanted)
        )
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", line):
        return _iota(iota[3]).reshape(int(iota[1]), int(iota[2]))
    listed = re.search(r"replica_groups=\{(\{.*?\})?\}", line)
    if not listed:
        raise ValueError(f"groups of devices that are written in an unknown way: {line:.400}")
    groups = re.findall(r"\{([\d,]+)\}", listed[1] or "")
    return np.array([group.split(",") for group in groups], int) if groups else np.arange(devices)[None]


def _iota(text):
    """[N] of [2,4]T(1,0): the numbers of this shape, transposed."""
    shape, order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()  # pyright: ignore
    numbers = np.arange(math.prod(map(int, shape.split(",")))).reshape([int(size) for size in shape.split(",")])
    return (numbers.transpose([int(axis) for axis in order.split(",")]) if order else numbers).ravel()


class Hardware(NamedTuple):
    """node: devices that the fast links join. fast, slow: bytes/s that a device can send over either, as published.
    speed: that of a device over that of the card on which MEASURED was."""

    node: int
    fast: float
    slow: float
    speed: float


MEASURED = {"lm1b": 387_551, "openwebtext": 282_117}  # tokens/s of one H200, benchmarks/results/accelerator.md
HARDWARE = {
    # NVLink 4: 900 GB/s both ways; a network card of 400 Gbit/s for each GPU, as in a DGX H100. As fast as an H200.
    "h100": Hardware(8, 450e9, 50e9, 1.0),
    # Links between chips: 1,600 Gbit/s, taken as both ways. 197 TFLOP/s in bfloat16, where the H200 has 989.
    "v5e": Hardware(256, 100e9, 100e9, 197 / 989),
}
RUNS = (
    *(("h100", "lm1b", mesh) for mesh in ("8x1x1", "1x8x1", "4x1x2", "64x1x1", "8x8x1")),
    *(("h100", "openwebtext", mesh) for mesh in ("8x1x1", "1x8x1", "4x1x2", "64x1x1", "8x8x1")),
    *(("v5e", name, mesh) for name in ("lm1b", "openwebtext") for mesh in ("256x1x1", "16x16x1")),
)


def between_nodes(one: Collective, hardware: Hardware) -> bool:
    """Whether a ring leaves a node, so that all of it waits for the slow links."""
    return bool((one.groups // hardware.node != one.groups[:, :1] // hardware.node).any())


def seconds(found: list[Collective], hardware: Hardware) -> float:
    """Of all collectives, one after another."""
    return sum(one.sent / (hardware.slow if between_nodes(one, hardware) else hardware.fast) for one in found)


def compiled_step(config: Any, sizes: tuple[int, ...]) -> tuple[str, int]:
    """(the text of a configuration's step, compiled for a mesh of these sizes; its parameters)."""
    mesh = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    corpus = build_run_data(config)
    stages, denoiser = build.build_stages(config, corpus), build.build_denoiser(config, corpus)
    optimizer, _ = build.build_optimizer(config)
    abstract = abstract_state(build.build_init(denoiser, corpus), optimizer, build.shard_rule(mesh))
    step = configured_step(config, stages, denoiser, optimizer, mesh, abstract)
    shape, sharding = (config.training.batch_size, config.data.length), batch_sharding(mesh)
    tokens, mask = (jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for dtype in (jnp.int32, jnp.bool_))
    program = step.lower(abstract, tokens, mask).compile().as_text()
    return program, sum(leaf.size for leaf in jax.tree.leaves(abstract.params))


def report(kind: str, name: str, mesh: str, batch_size: int | None) -> str:
    """A row of the table."""
    hardware, sizes = HARDWARE[kind], tuple(map(int, mesh.split("x")))
    config = importlib.import_module(f"semdlm_jax.experiment.configs.{name}").get_config()
    config.data.corpus, config.network.unroll, config.training.microbatches = "synthetic", 1, 1
    config.training.batch_size = batch_size or config.training.batch_size
    program, parameters = compiled_step(config, sizes)
    tokens = config.training.batch_size * config.data.length
    found = collectives(program, math.prod(sizes))
    by_kind = {kind: sum(one.sent for one in found if one.kind == kind) / 1e6 for kind in KINDS[:2]}
    total = sum(one.sent for one in found) / 1e6
    away = sum(one.sent for one in found if between_nodes(one, hardware)) / 1e6
    sending = 1000 * seconds(found, hardware)
    computing = 1000 * tokens / math.prod(sizes) / (MEASURED[name] * hardware.speed)
    shown = [f"{by_kind[kind]:,.0f}" for kind in KINDS[:2]]
    shown += [
        f"{abs(total - sum(by_kind.values())):,.0f}",
        f"{total:,.0f}",
        f"{away:,.0f}",
        f"{sending:.1f}",
        f"{computing:.1f}",
    ]
    least, most = computing / (computing + sending), computing / max(computing, sending)
    row = [f"{name}, {parameters / 1e6:,.0f}M", f"{mesh} {kind}", f"{tokens:,}", *shown, f"{least:.0%} to {most:.0%}"]
    return f"| {' | '.join(row)} |"


def main(options):
    count = max(math.prod(map(int, mesh.split("x"))) for _, _, mesh in RUNS)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    jax.config.update("jax_platforms", "cpu")
    for kind, name, mesh in RUNS:
        if all(
            wanted in (None, found)
            for wanted, found in zip((options.hardware, options.name, options.mesh), (kind, name, mesh))
        ):
            print(report(kind, name, mesh, options.batch_size), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("hardware", None, "Only this: h100 or v5e.")
    flags.DEFINE_string("name", None, "Only this configuration.")
    flags.DEFINE_string("mesh", None, "Only this mesh, as 8x8x1.")
    flags.DEFINE_integer("batch_size", None, "Rows of a step over all devices. Default: as configured.")
    cli.run(lambda: main(flags.FLAGS))
