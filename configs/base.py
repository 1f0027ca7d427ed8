"""Every key a run reads, at its default: semdlm_jax/experiment/defaults.py under its former name."""

from semdlm_jax.experiment.defaults import get_config  # noqa: F401
