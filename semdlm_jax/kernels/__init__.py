"""The forward process: what noise does to a token, and how a step back looks when the clean token is known."""

from semdlm_jax.kernels import branches, schedules
from semdlm_jax.kernels.named import KERNELS, KernelSpec, make_kernel
from semdlm_jax.kernels.neighbors import NeighborTable
from semdlm_jax.kernels.numerics import LOG_ZERO
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.protocol import KernelBase
from semdlm_jax.kernels.reverse import noise_share, return_rates, reverse_step, stay_probability
from semdlm_jax.kernels.schedules import SCHEDULES
from semdlm_jax.kernels.sparse import Kernel
from semdlm_jax.kernels.vocabulary import Vocabulary

__all__ = [
    "KERNELS",
    "LOG_ZERO",
    "SCHEDULES",
    "GlobalPrior",
    "Kernel",
    "KernelBase",
    "KernelSpec",
    "NeighborTable",
    "Vocabulary",
    "branches",
    "make_kernel",
    "noise_share",
    "return_rates",
    "reverse_step",
    "schedules",
    "stay_probability",
]
