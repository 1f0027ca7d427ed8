"""The forward process: what noise does to a token, and how a step back looks when the clean token is known."""

from semdlm_jax.kernels.family import LOG_ZERO, Kernel
from semdlm_jax.kernels.named import KERNELS, make_kernel
from semdlm_jax.kernels.neighbours import NeighbourTable
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.reverse import keep_probability, redraw_rate, reverse_step, stay_probability

__all__ = [
    "KERNELS",
    "LOG_ZERO",
    "GlobalPrior",
    "Kernel",
    "NeighbourTable",
    "keep_probability",
    "make_kernel",
    "redraw_rate",
    "reverse_step",
    "stay_probability",
]
