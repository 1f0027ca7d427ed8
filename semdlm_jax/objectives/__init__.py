"""What is trained and how it is scored: parameterisations, the likelihood bound, the losses."""

from semdlm_jax.objectives.losses import LOSSES, Objective, stratified_times
from semdlm_jax.objectives.posterior import PARAMETERISATIONS, Posterior

__all__ = ["LOSSES", "PARAMETERISATIONS", "Objective", "Posterior", "stratified_times"]
