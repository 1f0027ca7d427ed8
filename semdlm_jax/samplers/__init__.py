"""From noise to text: methods, controls, draws, time grids, the scan."""

import dataclasses

from semdlm_jax.errors import UserError, choose, nearest
from semdlm_jax.samplers import gidd, methods, remdm, sedd
from semdlm_jax.samplers.autoregressive import sample_autoregressive
from semdlm_jax.samplers.controls import Controls, make_controls
from semdlm_jax.samplers.draws import draw, truncate
from semdlm_jax.samplers.loop import Network, Record, Sampler
from semdlm_jax.samplers.penalty import Penalty
from semdlm_jax.samplers.plan import GRIDS, Plan, make_plan

METHODS = {
    "ancestral": methods.Ancestral,
    "tau_leaping": methods.TauLeaping,
    "blockwise": methods.Blockwise,
    "remdm_cap": remdm.Cap,
    "remdm_rescale": remdm.Rescale,
    "remdm_conf": remdm.Confidence,
    "remdm_loop": remdm.Loop,
    "sedd_euler": sedd.Euler,
    "sedd_analytic": sedd.Analytic,
    "gidd_correct": gidd.SelfCorrecting,
}


def make_method(name, **options):
    """A method of METHODS with options of its own. UserError for a name or option that it lacks."""
    method = choose("sampler", name, METHODS)
    known = [field.name for field in dataclasses.fields(method)]
    for option in options:
        if option not in known:
            has = f"has {', '.join(known)}: {nearest(option, known)}" if known else "has no options"
            raise UserError(f"the sampler {name!r} does not know {option!r}; it {has}")
    return method(**options)


__all__ = [
    "GRIDS",
    "METHODS",
    "Controls",
    "Network",
    "Penalty",
    "Plan",
    "Record",
    "Sampler",
    "draw",
    "make_controls",
    "make_method",
    "make_plan",
    "sample_autoregressive",
    "truncate",
]
