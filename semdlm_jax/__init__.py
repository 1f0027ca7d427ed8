"""Diffusion language models: kernels, objectives and samplers under one exact likelihood bound."""

from semdlm_jax.extras import require_for_program
from semdlm_jax.runtime.startup import is_program, leave_on_request

if is_program(__name__):
    leave_on_request()
    require_for_program()
