"""Which axis of each parameter goes over which mesh axis: (path end, PartitionSpec), first match wins.

Beside the shapes they cut: tables [V, D], layer stacks [N, in, out]. Widths into the residual stream lie over fsdp,
heads and hidden units over tensor. A table is cut over its tokens only: cutting the features of an embedding makes the
compiler gather it whole.
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
