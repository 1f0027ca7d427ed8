"""The systems by name: semdlm_jax/experiment/systems.py under its former name."""

from semdlm_jax.experiment.systems import SYSTEMS, System, apply  # noqa: F401
