"""What is trained and how it is scored: parameterisations, the likelihood bound, the losses."""

from semdlm_jax.objectives.losses import LOSSES, Loss, LossInput
from semdlm_jax.objectives.objective import (
    Autoregressive,
    NoisyBatch,
    Objective,
    make_objective,
    pick_objective,
    stratified_times,
)
from semdlm_jax.objectives.posterior import PARAMETERISATIONS, Parameterisation, Posterior, make_posterior
from semdlm_jax.objectives.stages import Stages

AUTOREGRESSIVE = "autoregressive"  # the name of Autoregressive, which is no loss on a kernel's noise

__all__ = [
    "AUTOREGRESSIVE",
    "LOSSES",
    "PARAMETERISATIONS",
    "Autoregressive",
    "Loss",
    "LossInput",
    "NoisyBatch",
    "Objective",
    "Parameterisation",
    "Posterior",
    "Stages",
    "make_objective",
    "make_posterior",
    "pick_objective",
    "stratified_times",
]
