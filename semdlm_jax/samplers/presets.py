"""How the authors of each system sample."""

import dataclasses
from typing import Any

from semdlm_jax.errors import UserError, choose, nearest
from semdlm_jax.samplers import METHODS
from semdlm_jax.samplers.settings import SamplingSettings, check_options_of_sampler


# kuleshov-group/remdm: nucleus 0.9; eta of the scripts for 1,024 tokens in 1,024 steps; the likeliest token at the end.
# Its times run to 1e-5.
def _remdm(variant, **options):
    return {"sampler": f"remdm_{variant}", "options": options, "top_p": 0.9, "t_min": 1e-5, "greedy_end": True}


PRESETS = {
    # The paper (section 5.1): tau-leaping with a predictor-corrector, two strides, the penalty. It gives no number of
    # corrections and varies both lambdas: one and 0.5 are ours.
    "semdlm_plus": {
        "sampler": "tau_leaping",
        "strides": 2,
        "corrector_steps": 1,
        "lambda_freq": 0.5,
        "lambda_sem": 0.5,
    },
    # The paper's appendix E.1: Eq. 121's predictor. It gives no rho or threshold.
    "blockwise": {"sampler": "blockwise", "strides": 2},
    # kuleshov-group/mdlm: 128 even steps to 1e-5, the likeliest token at the end.
    "mdlm": {"sampler": "ancestral", "t_min": 1e-5, "greedy_end": True},
    "remdm_cap": _remdm("cap", eta=0.008),
    "remdm_rescale": _remdm("rescale", eta=0.015),
    "remdm_conf": _remdm("conf"),
    "remdm_loop": _remdm("loop", eta=0.02, t_on=0.55, t_off=0.05, alpha_on=0.9),
    # louaaron/Score-Entropy-Discrete-Diffusion: Euler, 128 even steps to 1e-5; its conditional script is analytic.
    "sedd": {"sampler": "sedd_euler", "t_min": 1e-5},
    "sedd_analytic": {"sampler": "sedd_analytic", "t_min": 1e-5},
    # dvruette/gidd: even steps to 1e-4, then 128 corrections at temperature 0.1 and time 0.01, until more than 32 in a
    # row have not helped.
    "gidd": {
        "sampler": "gidd_correct",
        "t_min": 1e-4,
        "options": {"corrections": 128, "correct_temperature": 0.1, "correct_time": 0.01, "patience": 33},
    },
    # kuleshov-group/discrete-diffusion-guidance: as MDLM's.
    "udlm": {"sampler": "ancestral", "t_min": 1e-5, "greedy_end": True},
    # google-research d3pm: its thousand steps, the likeliest token at the end.
    "d3pm": {"sampler": "ancestral", "steps": 1000, "greedy_end": True},
}


def make_settings(preset: str | None = None, **changes: Any) -> SamplingSettings:
    """The default settings, changed by a preset and then by `changes`.

    Args:
        preset: a name of PRESETS; None for none.
        **changes: fields of SamplingSettings, and options of its sampler by their names or as `options`; None leaves
            one as it is.

    Raises:
        UserError: an unknown preset, setting or option, or a value out of its range.
    """
    settings = dict(choose("preset", preset, PRESETS)) if preset is not None else {}
    changes = {name: value for name, value in changes.items() if value is not None}
    named = changes.pop("options", {})
    check_options_of_sampler(named)
    own = settings.pop("options", {})
    if changes.get("sampler", settings.get("sampler")) != settings.get("sampler"):
        own = {}  # another sampler's
    known = [field.name for field in dataclasses.fields(SamplingSettings)]
    options = {**own, **named, **{name: value for name, value in changes.items() if name not in known}}
    settings |= {name: value for name, value in changes.items() if name in known}
    made = SamplingSettings(**settings, options=options)
    _check_known(made, known)
    METHODS.make(made.sampler, **options)
    return made


def _check_known(settings, known):
    """UserError for an option that no sampler has and that is spelled nearly like a setting."""
    having = METHODS.options(settings.sampler)
    for name in settings.options:
        if name not in having and not METHODS.having(name):
            raise UserError(f"unknown sampling setting {name!r}: {nearest(name, [*known, *having])}")
