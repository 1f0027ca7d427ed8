"""The mesh axis over which each axis of a parameter is split: (path end, PartitionSpec); the first match is used.

Tables are [V, D] and stacks of layers [N, in, out]. The width of the residual stream is split over fsdp, heads and
hidden units over tensor. A table is split over its tokens only: if its features were split, the compiler would gather
the whole table.
"""

import math

import jax
from jax.sharding import PartitionSpec as P

ROWS = ("data", "fsdp")  # the axes over which the rows of a batch are split

RULES = (
    (r"(embed|output)/embedding$", P(("tensor", "fsdp"), None)),
    (r"attention/qkv/kernel$", P(None, "fsdp", "tensor")),
    (r"attention/out/kernel$", P(None, "tensor", "fsdp")),
    (r"mlp/up/kernel$", P(None, "fsdp", "tensor")),
    (r"mlp/down/kernel$", P(None, "tensor", "fsdp")),
    (r"modulation/kernel$", P(None, "fsdp")),
)


def by_rows(x: jax.Array) -> jax.Array:
    """x [B, ...], its rows split over data and fsdp and nothing else, where a mesh is in use that divides them.

    Whoever compiles says which mesh (`jax.sharding.use_abstract_mesh`). Where weights are split over fsdp the compiler
    may as well keep these in place, have each device compute a part of every row, and add up the parts: activations are
    then sent around, which are far larger than weights.
    """
    mesh = jax.sharding.get_abstract_mesh()
    parts = 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in ROWS)
    return x if parts == 1 or x.shape[0] % parts else jax.lax.with_sharding_constraint(x, P(ROWS))
