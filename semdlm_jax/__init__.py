"""Diffusion language models: kernels, objectives and samplers under one exact likelihood bound."""

from semdlm_jax.runtime.startup import leave_while_importing

leave_while_importing(__name__)
