"""How the authors of each system sample."""

import dataclasses

from semdlm_jax.errors import UserError, choose, nearest
from semdlm_jax.samplers.settings import SamplingSettings


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


def make_settings(preset=None, **changes):
    """The default settings, changed by a preset and then by `changes`.

    Args:
        preset: a name of PRESETS; None for none.
        **changes: fields of SamplingSettings; None leaves one as it is, and `options` are merged.

    Raises:
        UserError: an unknown preset or setting, or a value out of its range.
    """
    settings = dict(choose("preset", preset, PRESETS)) if preset else {}
    changes = {name: value for name, value in changes.items() if value is not None}
    known = [field.name for field in dataclasses.fields(SamplingSettings)]
    for name in changes:
        if name not in known:
            raise UserError(f"unknown sampling setting {name!r}: {nearest(name, known)}")
    own = settings.pop("options", {})
    if changes.get("sampler", settings.get("sampler")) != settings.get("sampler"):
        own = {}  # another sampler's
    settings = {**settings, **changes, "options": {**own, **changes.get("options", {})}}
    return SamplingSettings(**settings)
