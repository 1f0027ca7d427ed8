"""Times of several functions side by side."""

import statistics
import time

# wall: what a user waits. cpu: processor time of this process, which others on the machine disturb less; the same on
# one core left alone, and no measure of an accelerator.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleave(functions, repeats, clock="wall"):
    """{name: [seconds]} of functions {name: callable that blocks until it is done}.

    Every round calls each function once, so that a machine that slows down or is shared slows them all alike and the
    times of one round may be compared. The first round, which warms caches up, is thrown away.
    """
    now = CLOCKS[clock]
    seconds = {name: [] for name in functions}
    for round_number in range(repeats + 1):
        for name, function in functions.items():
            start = now()
            function()
            if round_number:
                seconds[name].append(now() - start)
    return seconds


def spread(values, form):
    """`median (least to most)`, each number written by form, e.g. '{:,.0f}'."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"
