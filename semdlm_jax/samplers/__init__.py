"""From noise to text: draws, time grids, the scan."""

from semdlm_jax.samplers.draws import draw
from semdlm_jax.samplers.loop import SAMPLERS, Sampler
from semdlm_jax.samplers.plan import Plan, make_plan

__all__ = ["SAMPLERS", "Plan", "Sampler", "draw", "make_plan"]
