"""Sampling settings and presets: what they make of what is given."""

import dataclasses

import numpy as np
import pytest
import toys
from toys import TOYS

from semdlm_jax.errors import UserError
from semdlm_jax.samplers import METHODS, SamplingSettings, make_controls, make_method, make_plan
from semdlm_jax.samplers.presets import PRESETS, make_settings


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_sampled_with(preset):
    settings = make_settings(preset)
    method = make_method(settings.sampler, **settings.options)
    assert {name: getattr(method, name) for name in settings.options} == settings.options
    kernel = TOYS["hybrid" if preset == "gidd" else "absorbing"].build()
    method.check(kernel)
    t_min = settings.t_min or 1e-3
    plan = make_plan(
        kernel, settings.steps, settings.strides, 16, t_min, grid=settings.grid, between=method.between(kernel)
    )
    assert len(plan.t) == settings.steps
    names = ("temperature", "greedy_end", "top_k", "top_p", "lambda_freq", "lambda_sem", "window")
    make_controls(toys.table(), **{name: getattr(settings, name) for name in names})
    assert str(settings).startswith(f"{settings.sampler}, {settings.steps:,} steps")


def test_no_preset_gives_the_defaults():
    assert make_settings() == SamplingSettings() == make_settings(None, steps=None, options=None)
    method = make_method(SamplingSettings().sampler)
    controls = make_controls(toys.table())
    assert method == METHODS["ancestral"]() and (controls.top_k, controls.top_p, controls.penalty) == (None, None, None)


def test_changes_go_over_presets_and_presets_over_defaults():
    mdlm = make_settings("mdlm", steps=7, top_p=0.5, grid=None)
    assert mdlm == SamplingSettings("ancestral", t_min=1e-5, greedy_end=True, steps=7, top_p=0.5)
    # A change to what means off is a change.
    assert not make_settings("mdlm", greedy_end=False).greedy_end and make_settings("remdm_cap", top_p=1.0).top_p == 1
    # Options one by one, as long as the sampler is the preset's.
    loop = PRESETS["remdm_loop"]["options"]
    assert make_settings("remdm_loop", options={"eta": 0.1}).options == {**loop, "eta": 0.1}
    assert make_settings("remdm_loop", sampler="remdm_loop", options={"t_on": 0.6}).options == {**loop, "t_on": 0.6}
    other = make_settings("remdm_loop", sampler="blockwise", options={"rho": 2.0})
    assert other.options == {"rho": 2.0} and other.top_p == 0.9
    assert make_settings("remdm_loop", sampler="blockwise", rho=2.0) == other
    # What was made is nobody else's.
    assert PRESETS["remdm_loop"]["options"] == {"eta": 0.02, "t_on": 0.55, "t_off": 0.05, "alpha_on": 0.9}


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (lambda: make_settings("remdm_lop"), "unknown preset 'remdm_lop': did you mean 'remdm_loop'"),
        (
            lambda: make_settings("mdlm", temprature=0.5),
            "unknown sampling setting 'temprature': did you mean 'temperature'",
        ),
        (lambda: make_settings(qqq=1), "unknown sampling setting 'qqq': valid names: .*temperature"),
        (lambda: make_method("ancestrall"), "unknown sampler 'ancestrall': did you mean 'ancestral'"),
        (
            lambda: make_method("remdm_cap", etta=0.1),
            "'remdm_cap' has no option 'etta': it has eta: did you mean 'eta'",
        ),
        (lambda: make_method("ancestral", eta=0.1), "'ancestral' has no option 'eta': it has none"),
        (lambda: make_settings(rho=0.3), "'ancestral' has no option 'rho': it has none; blockwise has it"),
        (lambda: make_settings(options={"etta": 1}), "unknown sampling setting 'etta': valid names"),
        (lambda: make_settings(sampler="remdm_cap", eta=2.0), r"eta = 2.0 is not possible: give a number in \[0, 1\]"),
        (lambda: make_settings(options=3), "options = 3 is no dict of the sampler's own options: give each"),
        (lambda: make_settings(steps=np.array(4)), r"is an array and not a whole number: give int\(…\) of it"),
        (lambda: SamplingSettings(options={1: 2}), "options = {1: 2} is no dict"),
        (lambda: make_settings(preset=3), "preset is 3, which is no name: valid names: .*mdlm"),
        (
            lambda: make_method("blockwise", eta=0.1),
            "has no option 'eta': it has rho, freeze; remdm_cap, remdm_rescale, remdm_loop have it$",
        ),
        (lambda: make_method("blockwise", qqq=0.1), "'blockwise' has no option 'qqq': it has rho, freeze$"),
        (lambda: make_method("remdm_loop", t_on=0.01), "t_off < t_on"),
        (lambda: make_method("remdm_loop", alpha_on=1.0), "alpha_on = 1.0"),
        (lambda: make_method("remdm_cap", eta=1.5), "eta = 1.5"),
    ],
)
def test_what_is_unknown_or_impossible_is_refused(refused, says):
    with pytest.raises(UserError, match=says) as error:
        refused()
    assert "\n" not in str(error.value)


def test_settings_say_what_differs():
    assert str(SamplingSettings()) == "ancestral, 128 steps, 1 stride, temperature 1"
    shown = str(make_settings("remdm_cap", temperature=0.9, steps=4))
    assert shown == "remdm_cap, 4 steps, 1 stride, temperature 0.9, eta 0.008, t_min 1e-05, greedy_end True, top_p 0.9"
    for field in dataclasses.fields(SamplingSettings):
        if field.name not in ("options", "sampler"):
            other = {bool: True, str: "cosine", int: 3}.get(type(field.default), 0.5)
            changed = SamplingSettings(**{field.name: other})
            assert str(changed) != str(SamplingSettings()), field.name
