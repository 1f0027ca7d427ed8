"""What is trained and how it is scored: parameterizations, the likelihood bound, the losses."""

from semdlm_jax.objectives.autoregressive import AUTOREGRESSIVE, Autoregressive
from semdlm_jax.objectives.base import NoisyBatch, ObjectiveBase, Scoring, SequenceTerms
from semdlm_jax.objectives.losses import LOSSES, Loss, LossInput
from semdlm_jax.objectives.objective import Objective, make_objective, pick_objective, stratified_times
from semdlm_jax.objectives.posterior import PARAMETERIZATIONS, Parameterization, Posterior, make_posterior
from semdlm_jax.objectives.stages import Stages

__all__ = [
    "AUTOREGRESSIVE",
    "LOSSES",
    "PARAMETERIZATIONS",
    "Autoregressive",
    "Loss",
    "LossInput",
    "NoisyBatch",
    "Objective",
    "ObjectiveBase",
    "Parameterization",
    "Posterior",
    "Scoring",
    "SequenceTerms",
    "Stages",
    "make_objective",
    "make_posterior",
    "pick_objective",
    "stratified_times",
]
