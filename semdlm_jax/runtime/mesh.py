"""The device mesh, and the placement of batches and states on it by rules (path regex, PartitionSpec)."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.runtime.paths import map_with_path

AXES = ("data", "fsdp", "tensor")
# The batch is split over both: if fsdp shards held the same rows, their devices would do the same work.
BATCH_AXES = ("data", "fsdp")


def make_mesh(data: int, fsdp: int, tensor: int, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the axes ('data', 'fsdp', 'tensor').

    Args:
        data, fsdp, tensor: sizes of the axes. One of them may be -1: all devices that the other two leave.
        devices: all devices if None.

    Raises:
        UserError: the product of the sizes is not the number of devices.
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
        needs = f"a multiple of {known} devices" if rest else counted(known, "device")
        raise UserError(
            f"mesh {asked} needs {needs}, and JAX has {counted(len(devices), 'device')} here:"
            f" give sizes with product {len(devices)}, or -1 in one place for the rest"
        )
    # Auto axes: the compiler propagates shardings; under Explicit ones flax's Embed and cuDNN attention misbehave.
    return jax.make_mesh(tuple(sizes.values()), AXES, (AxisType.Auto,) * 3, devices=devices)


def check_batch(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """UserError unless `batch_size` rows divide into `microbatches`, and each of these over data*fsdp shards."""
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


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an array [B, ...]: rows over data and fsdp, other axes not split."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Places host arrays {name: [B, ...]} on the devices, with rows over data and fsdp.

    Every process passes the same whole batch and places the rows of its own devices.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()
    }


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """[R] int64, ascending: the rows of a batch that the devices of this process hold; all rows with one process.

    Processes that differ only along another axis than data and fsdp hold the same rows.
    """
    rows = np.arange(batch_size)
    held = batch_sharding(mesh).addressable_devices_indices_map(rows.shape).values()
    return np.unique(np.concatenate([rows[index] for index in held]))


def place_local(batch: Mapping[str, np.ndarray], batch_size: int, mesh: Mesh) -> dict[str, jax.Array]:
    """As `place_batch`, but each process passes only its `local_rows(batch_size, mesh)`: {name: [R, ...]}."""
    sharding, rows = batch_sharding(mesh), local_rows(batch_size, mesh)

    def place(array):
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            first = np.searchsorted(rows, start)
            return array[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, part)

    return {name: place(array) for name, array in batch.items()}


def shardings_from_rules(abstract_tree: Any, mesh: Mesh, rules: Sequence[tuple[str, PartitionSpec]]) -> Any:
    """A NamedSharding for each leaf of a tree.

    Leaves without a rule are replicated, and so is a dimension that its mesh axes do not divide evenly.

    Args:
        abstract_tree: a tree of anything with .shape.
        mesh: of the devices.
        rules: (regex, PartitionSpec) in order. The first whose regex is found (re.search) in the path of the leaf, e.g.
            'params/blocks/mlp/up/kernel', is used. A regex of the end of a path ('mlp/up/kernel$') covers the
            parameter, its moving average and its optimizer moments ('opt_state/1/0/mu/blocks/mlp/up/kernel').

    Returns:
        A tree of the same structure.

    Raises:
        ValueError: a PartitionSpec is longer than the shape of its leaf.
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
    """The number of shards of a dimension with this entry of a PartitionSpec: None, a name or a tuple of names."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[name] for name in names)
