"""The device mesh, and where batches and states live on it: rules of (path regex, PartitionSpec)."""

import math
import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.paths import map_with_path

AXES = ("data", "fsdp", "tensor")
# The batch is split over both: fsdp shards hold different rows, or their devices would repeat each other's work.
BATCH_AXES = ("data", "fsdp")


def make_mesh(data, fsdp, tensor, devices=None):
    """A mesh with axes ('data', 'fsdp', 'tensor') of these sizes over `devices` (all of them when None).

    One size may be -1: whatever the other two leave. UserError unless the product is the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    asked = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
    if any(size < 1 and size != -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise UserError(f"mesh {asked} is not valid: give sizes of at least 1, or -1 in at most one place for the rest")
    rest = [axis for axis, size in sizes.items() if size == -1]
    known = math.prod(size for size in sizes.values() if size != -1)
    if rest:
        sizes[rest[0]] = len(devices) // known
    if math.prod(sizes.values()) != len(devices):
        needs = f"a multiple of {known}" if rest else known
        raise UserError(
            f"mesh {asked} needs {needs} devices but {len(devices)} are here:"
            f" give sizes with product {len(devices)}, or -1 in one place for the rest"
        )
    # Auto axes: the compiler propagates shardings; under Explicit ones flax's Embed and cuDNN attention misbehave.
    return jax.make_mesh(tuple(sizes.values()), AXES, (AxisType.Auto,) * 3, devices=devices)


def check_batch(batch_size, microbatches, mesh):
    """UserError unless `batch_size` rows divide into `microbatches`, and each of those over data*fsdp shards."""
    if microbatches < 1:
        raise UserError(f"{microbatches} microbatches are not possible: give 1 or more")
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    multiple = microbatches * shards
    if batch_size < 1 or batch_size % multiple:
        near = max(multiple, round(batch_size / multiple) * multiple)
        raise UserError(
            f"batch size {batch_size} does not divide into {microbatches} microbatches x {shards} data and fsdp shards:"
            f" give a multiple of {multiple}, e.g. {near}"
        )


def batch_sharding(mesh):
    """Rows over data and fsdp, everything else whole: the sharding of an array [B, ...]."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Host arrays {name: [B, ...]} to global device arrays of the same shapes, rows over data and fsdp.

    Every process brings the same whole batch and places the rows of its own devices.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()
    }


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """[R] int64, ascending: which rows of a batch this process's devices hold. All of them with one process.

    Processes hold the same rows where an axis other than data and fsdp lies between them.
    """
    rows = np.arange(batch_size)
    held = batch_sharding(mesh).addressable_devices_indices_map(rows.shape).values()
    return np.unique(np.concatenate([rows[index] for index in held]))


def place_local(batch: Mapping[str, np.ndarray], batch_size: int, mesh: Mesh) -> dict[str, jax.Array]:
    """As `place_batch`, where each process brings its `local_rows(batch_size, mesh)` only: {name: [R, ...]}."""
    sharding, rows = batch_sharding(mesh), local_rows(batch_size, mesh)

    def place(array):
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            first = np.searchsorted(rows, start)
            return array[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, part)

    return {name: place(array) for name, array in batch.items()}


def shardings_from_rules(abstract_tree, mesh, rules):
    """A NamedSharding for each leaf of `abstract_tree` (anything with .shape), in the same structure.

    `rules` is an ordered tuple of (regex, PartitionSpec); the first whose regex is found (re.search) in the leaf's path
    'params/blocks/mlp/up/kernel' wins. Written as path ends ('mlp/up/kernel$'), a rule covers the parameter, its moving
    average and its optimizer moments ('opt_state/1/0/mu/blocks/mlp/up/kernel') alike. Leaves without a rule are
    replicated, and so is a dimension its mesh axes do not divide evenly. ValueError for a spec longer than its leaf.
    """
    compiled = [(re.compile(pattern), spec) for pattern, spec in rules]

    def place(path, leaf):
        spec = next((spec for pattern, spec in compiled if pattern.search(path)), PartitionSpec())
        if not leaf.shape:
            spec = PartitionSpec()
        if len(spec) > len(leaf.shape):
            raise ValueError(f"the sharding rule {spec} of {path} is longer than its shape {leaf.shape}")
        even = (axes if size % _shards(axes, mesh) == 0 else None for size, axes in zip(leaf.shape, spec))
        return NamedSharding(mesh, PartitionSpec(*even))

    return map_with_path(place, abstract_tree)


def _shards(axes, mesh):
    """How many pieces a dimension with this entry of a PartitionSpec (None, a name or a tuple of names) is cut into."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[name] for name in names)
