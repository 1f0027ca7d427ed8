"""Times of several functions side by side."""

import os
import pathlib
import statistics
import time

import jax

# wall: the time that a user waits. cpu: processor time of this process, which depends less on other processes of the
# machine; equal to wall on one undisturbed core, and not meaningful for an accelerator.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleave(functions, repeats, clock="wall"):
    """{name: [seconds]} of functions {name: callable that blocks until it is done}.

    Every round calls each function once. If the machine becomes slower or is shared, all functions are equally slower,
    and the times of one round can be compared. The first round, which fills caches, is discarded.
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
    """`median (minimum to maximum)`, each number written by form, e.g. '{:,.0f}'."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def machine():
    """The machine that the numbers were measured on."""
    return f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} CPU threads"


def reporter(path):
    """A function (*lines) that prints lines as they come and keeps the file at `path`, if not None, up to date."""
    told = []

    def report(*lines):
        print("\n".join(lines), flush=True)
        told.extend(lines)
        if path:
            pathlib.Path(path).write_text("\n".join(told) + "\n")

    return report
