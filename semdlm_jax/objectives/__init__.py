"""What is trained and how it is scored: parameterisations, the likelihood bound, the losses."""

from semdlm_jax.objectives.losses import LOSSES
from semdlm_jax.objectives.objective import Autoregressive, Objective, stratified_times
from semdlm_jax.objectives.posterior import PARAMETERISATIONS, Posterior
from semdlm_jax.objectives.stages import Stages

__all__ = ["LOSSES", "PARAMETERISATIONS", "Autoregressive", "Objective", "Posterior", "Stages", "stratified_times"]
