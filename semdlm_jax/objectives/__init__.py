"""What is trained and how it is scored: parameterisations, the likelihood bound, the losses."""

from semdlm_jax.objectives.losses import LOSSES
from semdlm_jax.objectives.objective import Autoregressive, Objective, stratified_times
from semdlm_jax.objectives.posterior import PARAMETERISATIONS, Posterior
from semdlm_jax.objectives.stages import Stages

AUTOREGRESSIVE = "autoregressive"  # the name of Autoregressive, which is no loss on a kernel's noise
NAMES = (*LOSSES, AUTOREGRESSIVE)

__all__ = [
    "AUTOREGRESSIVE",
    "LOSSES",
    "NAMES",
    "PARAMETERISATIONS",
    "Autoregressive",
    "Objective",
    "Posterior",
    "Stages",
    "stratified_times",
]
