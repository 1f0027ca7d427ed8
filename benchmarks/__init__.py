"""Studies run by hand."""

from semdlm_jax.runtime.startup import leave_while_importing

leave_while_importing(__name__)
