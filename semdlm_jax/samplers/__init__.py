"""From noise to text: methods, controls, draws, time grids, the scan."""

from semdlm_jax.plugins import Registry
from semdlm_jax.samplers import exact, gidd, methods, remdm, sedd
from semdlm_jax.samplers.autoregressive import sample_autoregressive
from semdlm_jax.samplers.categorical import draw, truncate
from semdlm_jax.samplers.controls import Controls, make_controls
from semdlm_jax.samplers.loop import Sampler, Trajectory
from semdlm_jax.samplers.methods import Method
from semdlm_jax.samplers.penalty import Penalty
from semdlm_jax.samplers.proposing import Network
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.samplers.time_grid import GRIDS, Plan, make_plan

METHODS = Registry(
    "sampler",
    Method,
    {
        "ancestral": methods.Ancestral,
        "tau_leaping": methods.TauLeaping,
        "blockwise": methods.Blockwise,
        "exact": exact.Exact,
        "remdm_cap": remdm.Cap,
        "remdm_rescale": remdm.Rescale,
        "remdm_conf": remdm.Confidence,
        "remdm_loop": remdm.Loop,
        "sedd_euler": sedd.Euler,
        "sedd_analytic": sedd.Analytic,
        "gidd_correct": gidd.SelfCorrecting,
    },
)
make_method = METHODS.make

__all__ = [
    "GRIDS",
    "METHODS",
    "Controls",
    "Method",
    "Network",
    "Penalty",
    "Plan",
    "Trajectory",
    "Sampler",
    "SamplingSettings",
    "draw",
    "make_controls",
    "make_method",
    "make_plan",
    "sample_autoregressive",
    "truncate",
]
