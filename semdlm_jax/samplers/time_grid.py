"""Times and positions of a sampler's steps: a time grid for each stride, a part of the sequence."""

import math
from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError, choose
from semdlm_jax.samplers.settings import check_settings


class Plan(NamedTuple):
    """The steps of a sampler: host arrays [N], an entry for each network evaluation.

    Args:
        t, s: float32, a step from time t to time s < t; s = 0 marks a stride's last step, which writes text.
        remask: float32, the chance that a written token is masked again, for ReMDM's loop; 0 for other methods.
        start, stop: int32, the positions of the stride being generated. Those before start are finished, those from
            stop on are hidden from the network.
    """

    t: np.ndarray
    s: np.ndarray
    remask: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def time_of(kernel, alpha):
    """The times at which the kernel keeps a token with chance alpha, host arrays of one shape; 1 where it always keeps
    more. By bisection on the log-odds, which are accurate for alpha near 0 and near 1."""
    alpha = np.asarray(alpha, np.float64)
    with np.errstate(divide="ignore"):
        wanted = np.log(alpha) - np.log1p(-alpha)
    low, high = np.zeros_like(alpha), np.ones_like(alpha)
    for _ in range(50):
        middle = (low + high) / 2
        found = log_snr(kernel, middle)
        low, high = np.where(found >= wanted, middle, low), np.where(found >= wanted, high, middle)
    return low


def log_snr(kernel, t):
    """log(alpha / (1 - alpha)) at host times t."""
    t = np.asarray(t, np.float32)
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(kernel.alpha(t), np.float64)) - np.log(np.asarray(kernel.noise(t), np.float64))


def _uniform(kernel, u, t_min):
    return 1 + (t_min - 1) * u


def _cosine(kernel, u, t_min):
    """Short steps where nearly all is noise, as MD4 takes them."""
    return t_min + (1 - t_min) * np.cos(math.pi / 2 * u)


def _log_snr(kernel, u, t_min):
    """Even in log(alpha / (1 - alpha)), from minus its value at t_min or that at t = 1, the larger one, to its value at
    t_min; the first time is 1."""
    clean = log_snr(kernel, t_min)
    noisy = max(-clean, log_snr(kernel, 1.0))
    odds = noisy + (clean - noisy) * u
    return np.where(u > 0, np.clip(time_of(kernel, 1 / (1 + np.exp(-odds))), t_min, 1), 1.0)


GRIDS = {"uniform": _uniform, "cosine": _cosine, "log_snr": _log_snr}


def steps_between(times):
    """(t, s, remask) of a stride that steps through `times` [N] and then writes text."""
    return times, np.append(times[1:], 0.0), np.zeros_like(times)


def make_plan(kernel, steps, strides, length, t_min, *, grid="uniform", between=steps_between):
    """Shares network evaluations between equal parts of the sequence, the strides, generated left to right.

    The times of a stride go from t = 1 to t_min by the grid; its last step goes from t_min to text.

    Args:
        kernel: whose alpha the grid `log_snr` reads.
        steps: network evaluations, over all strides together.
        strides: equal parts of the sequence.
        length: positions L, a multiple of strides.
        t_min: where a stride's last step starts, in (0, 1).
        grid: a name of GRIDS, the spacing of the times from 1 to t_min.
        between: a method's own reading of such a grid, `Method.between`.

    Raises:
        UserError: t_min is no time, the steps are fewer than the strides, or the strides do not divide the length.

    Example:

        >>> from semdlm_jax.kernels import Vocabulary, make_kernel
        >>> from semdlm_jax.samplers import make_plan
        >>> plan = make_plan(make_kernel("uniform", Vocabulary(5, 4)), steps=4, strides=2, length=6, t_min=0.5)
        >>> plan.t.tolist(), plan.s.tolist()
        ([1.0, 0.5, 1.0, 0.5], [0.5, 0.0, 0.5, 0.0])
        >>> plan.start.tolist(), plan.stop.tolist()
        ([0, 0, 3, 3], [3, 3, 6, 6])
    """
    point = choose("grid", grid, GRIDS)
    check_settings(steps=steps, strides=strides, t_min=t_min)
    if length % strides:
        raise UserError(f"strides = {strides} must divide the sequence length {length} into equal parts")
    if steps < strides:
        raise UserError(f"steps = {steps} is fewer than strides = {strides}: every stride needs at least one step")
    parts = []
    for index in range(strides):
        count = steps * (index + 1) // strides - steps * index // strides
        times = point(kernel, np.arange(count) / max(count - 1, 1), t_min)
        start, stop = index * length // strides, (index + 1) * length // strides
        parts.append((*between(times), np.full(count, start), np.full(count, stop)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Plan(*(x.astype(np.float32) for x in columns[:3]), *(x.astype(np.int32) for x in columns[3:]))
