"""What is trained and how it is scored: parameterizations, the likelihood bound, the losses."""

from semdlm_jax.objectives.losses import LOSSES, Loss, LossInput
from semdlm_jax.objectives.objective import (
    Autoregressive,
    NoisyBatch,
    Objective,
    make_objective,
    pick_objective,
    stratified_times,
)
from semdlm_jax.objectives.posterior import PARAMETERIZATIONS, Parameterization, Posterior, make_posterior
from semdlm_jax.objectives.stages import Stages

AUTOREGRESSIVE = "autoregressive"  # the name of Autoregressive, which is no loss on a kernel's noise

__all__ = [
    "AUTOREGRESSIVE",
    "LOSSES",
    "PARAMETERIZATIONS",
    "Autoregressive",
    "Loss",
    "LossInput",
    "NoisyBatch",
    "Objective",
    "Parameterization",
    "Posterior",
    "Stages",
    "make_objective",
    "make_posterior",
    "pick_objective",
    "stratified_times",
]
