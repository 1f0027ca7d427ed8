"""The forward process: what noise does to a token, and how a step back looks when the clean token is known."""

from semdlm_jax.kernels import branches, schedules
from semdlm_jax.kernels.markov import MarkovKernel
from semdlm_jax.kernels.named import KERNELS, make_kernel
from semdlm_jax.kernels.neighbors import NeighborTable
from semdlm_jax.kernels.nested import NestedKernel
from semdlm_jax.kernels.numerics import LOG_ZERO
from semdlm_jax.kernels.partitions import Partitions
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.protocol import KernelBase
from semdlm_jax.kernels.renewal import KeepOrRenew
from semdlm_jax.kernels.reverse import Coupled, Origins, Reverse
from semdlm_jax.kernels.schedules import SCHEDULES
from semdlm_jax.kernels.sparse import Kernel
from semdlm_jax.kernels.spec import KernelSpec
from semdlm_jax.kernels.vocabulary import Vocabulary

__all__ = [
    "KERNELS",
    "LOG_ZERO",
    "SCHEDULES",
    "Coupled",
    "GlobalPrior",
    "KeepOrRenew",
    "Kernel",
    "KernelBase",
    "KernelSpec",
    "MarkovKernel",
    "NeighborTable",
    "NestedKernel",
    "Origins",
    "Partitions",
    "Reverse",
    "Vocabulary",
    "branches",
    "make_kernel",
    "schedules",
]
