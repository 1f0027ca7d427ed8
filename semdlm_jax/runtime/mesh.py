"""The device mesh, and where batches and states live on it: rules of (path regex, PartitionSpec)."""

import math
import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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


def place_batch(batch, mesh):
    """Host arrays {name: [B / processes, ...]} to global device arrays {name: [B, ...]}, rows over data and fsdp.

    Each process brings the rows of its own devices; with one process that is the whole batch.
    """
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def shardings_from_rules(abstract_tree, mesh, rules):
    """A NamedSharding for each leaf of `abstract_tree` (anything with .shape), in the same structure.

    `rules` is an ordered tuple of (regex, PartitionSpec); the first whose regex is found (re.search) in the leaf's path
    'params/blocks/mlp/up/kernel' wins. Written as path ends ('mlp/up/kernel$'), a rule covers the parameter, its moving
    average and its optimiser moments ('opt_state/1/0/mu/blocks/mlp/up/kernel') alike. Leaves without a rule are
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
