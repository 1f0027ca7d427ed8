"""Wall times of several functions side by side."""

import statistics
import time


def interleave(functions, repeats):
    """{name: [seconds]} of functions {name: callable that blocks until it is done}.

    Every round calls each function once, so that a machine that slows down or is shared slows them all alike and the
    times of one round may be compared. The first round, which warms caches up, is thrown away.
    """
    seconds = {name: [] for name in functions}
    for round_number in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values, form):
    """`median (least to most)`, each number written by form, e.g. '{:,.0f}'."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"
