"""The speed of training: tokens and floating-point operations per second, and their share of the devices' peak."""

import time
from collections.abc import Sequence
from typing import Any

# The peak of a device in dense matrix products, in 1e12 operations per second, as its maker states: (bfloat16, float32
# as JAX multiplies it by default: one pass of bfloat16 on a TPU, TF32 on a GPU that has it). Keys are beginnings of
# jax.Device.device_kind; the longest one that fits is used.
PEAKS = {
    "TPU v2": (22.5, 22.5),  # a device is a core, of two on a chip
    "TPU v3": (61.5, 61.5),
    "TPU v4": (275, 275),
    "TPU v5 lite": (197, 197),
    "TPU v5e": (197, 197),
    "TPU v5": (459, 459),
    "TPU v6 lite": (918, 918),
    "TPU v6e": (918, 918),
    "NVIDIA A10G": (70, 35),
    "NVIDIA A100": (312, 156),
    "NVIDIA L4": (121, 60),
    "NVIDIA L40S": (362, 183),
    "NVIDIA H100": (989, 494),
    "NVIDIA H100 PCIe": (756, 378),
    "NVIDIA H200": (989, 494),
    "NVIDIA B200": (2250, 1125),
    "NVIDIA GeForce RTX 3090": (71, 36),
    "NVIDIA GeForce RTX 4090": (165, 83),
}


def peak(kind: str, dtype: str) -> float | None:
    """Peak operations per second of a device of this kind in 'bfloat16' or 'float32'; None if unknown."""
    known = [name for name in PEAKS if kind == name or kind.startswith((f"{name} ", f"{name}-"))]
    return 1e12 * PEAKS[max(known, key=len)][dtype == "float32"] if known else None


class Speed:
    """Rates between two finished steps, without other work such as compilation.

    Args:
        tokens: per step.
        operations: per token, in training.
        dtype: of matrix products.
        devices: those that share a step.
    """

    def __init__(self, tokens: int, operations: float, dtype: str, devices: Sequence[Any]):
        self._tokens, self._operations = tokens, operations
        one = peak(devices[0].device_kind, dtype)
        self._peak = one and one * len(devices)
        self._since = None

    def begin(self, step: int) -> None:
        """Starts counting at `step`, which has just finished, unless counting has started before."""
        if self._since is None:
            self._since = step, time.monotonic()

    def restart(self, step: int) -> None:
        """Starts counting again at `step`, which has just finished."""
        self._since = step, time.monotonic()

    def take(self, step: int) -> dict[str, float]:
        """{name: rate} up to `step`, which has just finished; {} if counting had not started. Counting starts again."""
        since, self._since = self._since, (step, time.monotonic())
        if since is None or step <= since[0]:
            return {}
        tokens = (step - since[0]) * self._tokens / (self._since[1] - since[1])
        rates = {"tokens_per_second": tokens, "teraflops_per_second": tokens * self._operations / 1e12}
        return rates | ({"mfu": tokens * self._operations / self._peak} if self._peak else {})
