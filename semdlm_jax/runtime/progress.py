"""The progress of a long job: a bar on a terminal, or a line every few seconds in a log file."""

import sys
import time

import jax
from tqdm import tqdm

LOG_SECONDS = 10.0


def tell(line: str) -> None:
    """Prints a line on stderr, on process 0 only."""
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Shows step, values, units per second and the remaining time on stderr, on process 0 only.

    On a terminal this is a bar. Otherwise a plain line is printed before the first step, at the first update, then at
    most every 10 s, and at the end. The rate is the mean since the first update: the compilation of the first step is
    not included, pauses between later steps are.

    Args:
        total_steps: steps of the whole job.
        initial: how many of them are done already.
        units_per_step: units (e.g. tokens) that one step handles.
        unit: the name of a unit.
        label: the name of the job.
    """

    def __init__(self, total_steps: int, initial: int = 0, units_per_step: int = 1, unit: str = "tok", label: str = ""):
        self._total, self._units, self._unit, self._label = total_steps, units_per_step, unit, label
        self._silent = jax.process_index() != 0
        self._origin: tuple[int, float] | None = None  # (step, seconds) of the first update
        self._line, self._shown_at = None, None
        self._bar = None
        if self._silent:
            return
        if sys.stderr.isatty():
            layout = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}]{postfix}"
            self._bar = tqdm(total=total_steps, initial=initial, desc=label or None, bar_format=layout, leave=True)
        else:
            print(f"{label} {initial}/{total_steps}".strip(), file=sys.stderr, flush=True)

    def update(self, step: int, **shown: float) -> None:
        """Reports that `step` steps are done. shown: numbers to display as well, e.g. loss=3.2."""
        if self._silent:
            return
        now = time.monotonic()
        self._origin = self._origin or (step, now)
        parts = [f"{name} {value:.4g}" for name, value in shown.items()] + self._speed(self._origin, step, now)
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(step - self._bar.n)
            return
        head = f"{self._label} {step}/{self._total}".strip()
        self._line = ", ".join([head, *parts])
        if self._shown_at is None or now - self._shown_at >= LOG_SECONDS or step >= self._total:
            self._print_line(now)

    def _speed(self, origin, step, now):
        first, since = origin
        if step <= first or now <= since:
            return []
        rate = (step - first) / (now - since)
        left = tqdm.format_interval(max(self._total - step, 0) / rate)
        return [f"{tqdm.format_sizeof(rate * self._units)} {self._unit}/s overall", f"{left} left"]

    def _print_line(self, now):
        print(self._line, file=sys.stderr, flush=True)
        self._line, self._shown_at = None, now

    def write(self, line: str) -> None:
        """Prints a line of its own without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif not self._silent:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen."""
        if self._bar is not None:
            self._bar.close()
        elif self._line is not None:
            self._print_line(time.monotonic())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
