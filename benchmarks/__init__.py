"""Studies run by hand."""

from semdlm_jax.runtime.startup import is_program, leave_on_request

if is_program(__name__):
    leave_on_request()
