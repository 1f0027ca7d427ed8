"""Time grids, strides and ReMDM's loop, against the schedules' formulas in float64."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import make_kernel, schedules
from semdlm_jax.samplers import GRIDS, METHODS, make_method, make_plan
from semdlm_jax.samplers.time_grid import steps_between, time_of

T_MIN = 1e-3

# Times are float32: one of size 1 is off by 3e-8 when it is stored, and again as much where the kernel's alpha is.
TIME = 1.2e-7

# alpha(t), and the noise where subtracting would lose it.
FORMULAS = {
    "linear": (lambda t: 1 - t, lambda t: t),
    "loglinear": (lambda t: 1 - (1 - 1e-3) * t, lambda t: (1 - 1e-3) * t),
    "cosine": (
        lambda t: 1e-3 + (1 - 1e-3) * np.cos(math.pi / 2 * t),
        lambda t: (1 - 1e-3) * 2 * np.sin(math.pi / 4 * t) ** 2,
    ),
    "geometric": (
        lambda t: np.exp(-(1e-4 ** (1 - t)) * 20.0**t),
        lambda t: -np.expm1(-(1e-4 ** (1 - t)) * 20.0**t),
    ),
}


def log_odds(name, t):
    alpha, noise = FORMULAS[name]
    with np.errstate(divide="ignore"):
        return np.log(alpha(np.float64(t))) - np.log(noise(np.float64(t)))


def absorbing(schedule="linear"):
    return make_kernel("absorbing", toys.vocabulary(), schedule=schedules.SCHEDULES[schedule]())


LINEAR = absorbing()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("steps", "strides"), [(1, 1), (7, 1), (8, 2), (7, 2), (5, 4), (4, 4), (129, 8)])
def test_strides_share_the_steps(grid, steps, strides):
    """Left to right, equal parts, as many steps each as can be; down the grid from 1 to t_min, then to text."""
    plan = make_plan(LINEAR, steps, strides, 16, T_MIN, grid=grid)
    assert all(isinstance(column, np.ndarray) and column.shape == (steps,) for column in plan)
    assert plan.t.dtype == plan.s.dtype == plan.remask.dtype == np.float32
    assert plan.start.dtype == plan.stop.dtype == np.int32
    starts, counts = np.unique(plan.start, return_counts=True)
    np.testing.assert_array_equal(starts, 16 // strides * np.arange(strides))
    assert counts.max() - counts.min() <= 1 and (np.diff(plan.start) >= 0).all()
    np.testing.assert_array_equal(plan.stop, plan.start + 16 // strides)
    assert (plan.remask == 0).all()
    for start in starts:
        t, s = plan.t[plan.start == start], plan.s[plan.start == start]
        assert t[0] == 1 and s[-1] == 0 and (np.diff(t) < 0).all()
        np.testing.assert_array_equal(s[:-1], t[1:])
        if len(t) > 1:
            np.testing.assert_allclose(t[-1], T_MIN, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("steps", "strides", "says"),
    [
        (8, 3, "divide"),
        (8, 0, "strides = 0"),
        (8, -2, "strides = -2"),
        (8, 32, "divide"),
        (1, 2, "fewer"),
        (0, 1, "steps = 0"),
    ],
)
def test_impossible_plans(steps, strides, says):
    with pytest.raises(UserError, match=says):
        make_plan(LINEAR, steps, strides, 16, T_MIN)


@pytest.mark.parametrize("t_min", [0, -0.1, 1, 2, float("nan")])
def test_a_last_step_from_no_time(t_min):
    with pytest.raises(UserError, match="t_min = .* in "):
        make_plan(LINEAR, 4, 1, 16, t_min)


def test_an_unknown_grid_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="unknown grid 'cosin': did you mean 'cosine'"):
        make_plan(LINEAR, 4, 1, 16, T_MIN, grid="cosin")


def times(kernel, grid, steps, t_min=T_MIN):
    return np.float64(make_plan(kernel, steps, 1, 16, t_min, grid=grid).t)


@pytest.mark.parametrize("t_min", [1e-5, 1e-3, 0.05])
def test_uniform_and_cosine_times(t_min):
    """To a float32's rounding. No time twice, which would be an evaluation for nothing."""
    for steps in (2, 9, 1000):
        u = np.arange(steps) / (steps - 1)
        np.testing.assert_allclose(times(LINEAR, "uniform", steps, t_min), 1 - u * (1 - t_min), rtol=TIME)
        cosine = times(LINEAR, "cosine", steps, t_min)
        np.testing.assert_allclose(cosine, t_min + (1 - t_min) * np.cos(math.pi / 2 * u), rtol=TIME)
        assert (np.diff(cosine) < 0).all()


def test_cosine_steps_are_short_where_all_is_noise():
    steps = -np.diff(times(LINEAR, "cosine", 50))
    assert (np.diff(steps) > 0).all() and steps[0] < 0.02 * steps[-1]


@pytest.mark.parametrize("schedule", FORMULAS)
@pytest.mark.parametrize("steps", [3, 33, 128])
def test_log_snr_times_are_even_in_the_log_odds(schedule, steps):
    """From the side of noise as far from 1/2 as t_min, or all the schedule has, in even steps. The log-odds move by at
    most 1/alpha + 1/noise, 3,000 with some to spare, for each unit of time: 3,000 roundings of a time are 3e-4. The
    kernel's own float32 noise moves them by as little."""
    t = times(absorbing(schedule), "log_snr", steps)
    assert t[0] == 1 and (np.diff(t) < 0).all()
    np.testing.assert_allclose(t[-1], T_MIN, atol=1e-8, rtol=0)
    clean = log_odds(schedule, T_MIN)
    noisy = max(-clean, log_odds(schedule, 1.0))
    expected = np.linspace(noisy, clean, steps)
    np.testing.assert_allclose(log_odds(schedule, t[1:]), expected[1:], atol=4e-4, rtol=0)
    # Only the first is moved, to where sampling starts.
    assert log_odds(schedule, 1.0) <= noisy + 1e-9


@pytest.mark.parametrize("name", TOYS)
def test_time_of_inverts_alpha(name):
    """As far as float32 tells: alpha of the time is what was asked for, to its rounding and that of the time times the
    slope."""
    toy, kernel = TOYS[name], TOYS[name].build()
    t = np.concatenate([np.linspace(0.002, 0.998, 61), [1e-4, 1e-3, 1 - 1e-3]])
    alpha = np.array([np.real(toy.alpha(time)) for time in t], float)
    slope = np.array([abs(toy.alpha_derivative(time)) for time in t], float)
    found = time_of(kernel, alpha)
    assert found.dtype == np.float64 and found.shape == alpha.shape
    again = np.array([np.real(toy.alpha(time)) for time in found], float)
    np.testing.assert_array_less(np.abs(again - alpha), 2 * TIME * (1 + slope))
    # Nothing lost at the ends: what is never kept so rarely is at 1, what is always kept at 0.
    least = float(np.real(toy.alpha(1.0)))
    np.testing.assert_array_equal(np.float32(time_of(kernel, [1.0, least / 2, 0.0])), [0.0, 1.0, 1.0])
    assert time_of(kernel, np.full((2, 3), 0.9)).shape == (2, 3)


def test_small_noise_keeps_its_digits():
    """1 - 1e-6 is one of 17 float32 numbers between it and 1: times by alpha alone would be off by percents."""
    for noise in (1e-6, 1e-5, 1e-4):
        np.testing.assert_allclose(time_of(LINEAR, 1 - noise), noise, rtol=2e-7)
        assert abs(time_of(absorbing("cosine"), 1 - noise) / math.sqrt(8 * noise / math.pi**2 / 0.999) - 1) < 1e-4


# ReMDM's loop.


def expected_alpha(loop, t):
    if t > loop.t_on:
        return (1 - t) * loop.alpha_on / (1 - loop.t_on)
    return loop.alpha_on if t > loop.t_off else 1 - t * (1 - loop.alpha_on) / loop.t_off


@pytest.mark.parametrize("schedule", ["linear", "loglinear"])
@pytest.mark.parametrize(
    "options", [{}, {"t_on": 0.7, "t_off": 0.3, "alpha_on": 0.6, "eta": 0.1}, {"t_off": 1e-4}], ids=str
)
@pytest.mark.parametrize("steps", [2, 10, 128])
def test_the_loop_is_remdms(schedule, options, steps):
    """alpha to 2e-7: a float32's rounding of a time, twice. The second schedule never keeps less than 1e-3 of the
    tokens; ReMDM's first times ask for less, and get t = 1."""
    loop, kernel = make_method("remdm_loop", **options), absorbing(schedule)
    plan = make_plan(kernel, steps, 1, 16, T_MIN, between=loop.between(kernel))
    own = 1 - np.arange(steps) / (steps - 1) * (1 - T_MIN)
    alpha_t, alpha_s = (FORMULAS[schedule][0](np.float64(time)) for time in (plan.t, plan.s))
    expected = np.maximum([expected_alpha(loop, time) for time in own], FORMULAS[schedule][0](1.0))
    loops = (own <= loop.t_on) & (own > loop.t_off)
    after = np.append(False, loops[:-1]) & ~loops
    # The first step behind the loop starts where the loop ended.
    np.testing.assert_allclose(alpha_t, np.where(after, loop.alpha_on, expected), atol=2e-7, rtol=0)
    np.testing.assert_array_equal(plan.t[1:], plan.s[:-1])
    inside, last = loops[:-1], np.arange(steps) == steps - 1
    np.testing.assert_allclose(alpha_s[:-1][~inside], expected[1:][~inside], atol=2e-7, rtol=0)
    np.testing.assert_allclose(alpha_s[:-1][inside], loop.alpha_on, atol=2e-7, rtol=0)
    np.testing.assert_array_equal(plan.remask, np.where(loops & ~last, np.float32(loop.eta), 0))
    assert plan.t[0] == 1 and plan.s[-1] == 0 and (plan.s[:-1] > 0).all()
    assert (plan.s <= plan.t).all() and (np.diff(plan.t) <= 0).all() and (np.diff(plan.s) <= 0).all()
    # Before and behind the loop every step makes progress.
    assert (plan.s < plan.t)[~loops].all()


def test_a_loop_begins_anew_in_every_stride():
    loop = make_method("remdm_loop")
    one, two = (make_plan(LINEAR, 16 * strides, strides, 16, T_MIN, between=loop.between(LINEAR)) for strides in (1, 2))
    for column in ("t", "s", "remask"):
        np.testing.assert_array_equal(getattr(two, column), np.tile(getattr(one, column), 2))
    assert (two.remask > 0).any()


@pytest.mark.parametrize("name", METHODS)
def test_other_methods_read_the_grid_as_it_is(name):
    if name != "remdm_loop":
        columns = make_method(name).between(LINEAR)(np.array([1.0, 0.4, 0.1]))
        for found, expected in zip(columns, ([1.0, 0.4, 0.1], [0.4, 0.1, 0.0], [0.0, 0.0, 0.0]), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len(steps_between(np.ones(1))) == 3


# Presets and settings.


def test_plans_are_host_arrays_whatever_the_kernel_holds():
    """Plans of kernels built on device arrays, under any grid, go into a jitted function as they are."""
    for grid, name in itertools.product(GRIDS, ("semdlm_plus", "hybrid")):
        plan = make_plan(TOYS[name].build(), 5, 1, 4, T_MIN, grid=grid)
        assert all(type(column) is np.ndarray and np.isfinite(column).all() for column in plan)
        assert jnp.asarray(plan.t).dtype == jnp.float32
