"""The mesh axis over which each axis of a parameter is split: (path end, PartitionSpec); the first match is used.

Tables are [V, D] and stacks of layers [N, in, out]. The width of the residual stream is split over fsdp, heads and
hidden units over tensor. A table is split over its tokens only: if its features were split, the compiler would gather
the whole table.
"""

from jax.sharding import PartitionSpec as P

RULES = (
    (r"(embed|output)/embedding$", P(("tensor", "fsdp"), None)),
    (r"attention/qkv/kernel$", P(None, "fsdp", "tensor")),
    (r"attention/out/kernel$", P(None, "tensor", "fsdp")),
    (r"mlp/up/kernel$", P(None, "fsdp", "tensor")),
    (r"mlp/down/kernel$", P(None, "tensor", "fsdp")),
    (r"modulation/kernel$", P(None, "fsdp")),
)
