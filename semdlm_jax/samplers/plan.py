"""When and where a sampler acts: the time grid of every network evaluation, split over strides."""

from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError


class Plan(NamedTuple):
    """One entry for each of the N network evaluations, host arrays [N].

    t, s: from time t to time s < t; s = 0 marks a stride's last step, which writes text. start, stop: the positions of
    the stride being generated; those before start are finished, those from stop on are hidden from the network.
    """

    t: np.ndarray
    s: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def make_plan(steps, strides, length, t_min):
    """`steps` evaluations in all, shared between `strides` equal parts of the sequence, left to right.

    Each stride runs down an even grid from t = 1 to t_min; its last step goes from t_min to text. UserError when the
    steps are fewer than the strides, or the strides do not divide the length.
    """
    if strides < 1 or length % strides:
        raise UserError(f"--strides={strides} must divide the sequence length {length} into equal parts")
    if steps < strides:
        raise UserError(f"--steps={steps} is fewer than --strides={strides}: every stride needs at least one step")
    parts = []
    for index in range(strides):
        count = steps * (index + 1) // strides - steps * index // strides
        t = np.linspace(1.0, t_min, count)
        s = np.append(t[1:], 0.0)
        start, stop = index * length // strides, (index + 1) * length // strides
        parts.append((t, s, np.full(count, start), np.full(count, stop)))
    t, s, start, stop = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Plan(t.astype(np.float32), s.astype(np.float32), start.astype(np.int32), stop.astype(np.int32))
