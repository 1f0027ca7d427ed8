"""Noise schedules: alpha, 1 - alpha and the derivative, each against its definition and against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import SCHEDULES
from semdlm_jax.kernels.schedules import Cosine, Geometric, Linear, LogLinear, Polynomial

# As the papers write them, in Python floats.
PAPERS = {
    Linear(): lambda t: 1 - t,
    LogLinear(1e-3): lambda t: 1 - (1 - 1e-3) * t,
    Cosine(1e-3): lambda t: 1e-3 + (1 - 1e-3) * math.cos(math.pi * t / 2),
    Cosine(0.0): lambda t: math.cos(math.pi * t / 2),
    Geometric(1e-4, 20.0): lambda t: math.exp(-(1e-4 ** (1 - t) * 20.0**t)),
    Polynomial(2.0): lambda t: 1 - t * t,
    Polynomial(0.5): lambda t: 1 - math.sqrt(t),
}
every_schedule = pytest.mark.parametrize("schedule", PAPERS, ids=repr)


def test_every_schedule_is_tested():
    assert {type(schedule) for schedule in PAPERS} == set(SCHEDULES.values())


@every_schedule
def test_alpha_falls_from_one(float64, schedule):
    t = np.linspace(0, 1, 201)
    alpha = np.asarray(schedule.alpha(jnp.asarray(t)))
    np.testing.assert_allclose(alpha, [PAPERS[schedule](x) for x in t], rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(schedule.noise(jnp.asarray(t)), 1 - alpha, atol=1e-15)
    assert (np.diff(alpha) < 0).all() and alpha[-1] >= 0
    left = math.exp(-1e-4) if isinstance(schedule, Geometric) else 1.0
    assert alpha[0] == pytest.approx(left, abs=1e-15)


@every_schedule
def test_derivative_is_that_of_alpha(float64, schedule):
    t = jnp.linspace(0.001, 0.999, 57)
    exact = jax.vmap(jax.grad(schedule.alpha))(t)
    np.testing.assert_allclose(schedule.alpha_dot(t), exact, rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(jax.grad(schedule.noise))(t), -exact, rtol=1e-10, atol=1e-13)


@every_schedule
def test_float32_keeps_relative_accuracy_at_both_ends(schedule):
    t = np.float32([1e-5, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-5])
    single = [f(jnp.asarray(t)) for f in (schedule.alpha, schedule.noise, schedule.alpha_dot)]
    with jax.enable_x64(True):
        double = [f(jnp.asarray(t, jnp.float64)) for f in (schedule.alpha, schedule.noise, schedule.alpha_dot)]
    for one, exact in zip(single, double, strict=True):
        # An exponent of an exponent: sigma = 20 at the end, log(sigma_max / sigma_min) = 12.2, so 20 x 12.2 x 2^-24.
        np.testing.assert_allclose(one, exact, rtol=1.5e-5 if isinstance(schedule, Geometric) else 1e-6)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("liner", {}, "unknown schedule 'liner'.*'linear'"),
        ("loglinear", {"eps": 1.0}, "eps = 1.0"),
        ("cosine", {"eps": float("nan")}, "eps = nan"),
        ("geometric", {"sigma_min": 0.0}, "sigma_min"),
        ("geometric", {"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min"),
        ("polynomial", {"power": 0.0}, "power = 0.0"),
    ],
)
def test_impossible_schedules_are_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        SCHEDULES.make(name, **options)


def test_a_schedule_reads_its_own_options():
    assert SCHEDULES.pick("geometric", {"eps": 0.5, "sigma_min": 1e-3, "sigma_max": 2.0}) == Geometric(1e-3, 2.0)
    assert SCHEDULES.pick("linear", {"power": 3.0}) == Linear()
