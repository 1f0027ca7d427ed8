"""Suppresses orbax's own messages about failures, which are reported to the user in one sentence."""

import contextlib
import functools
import gc
import logging
import sys
import warnings
from collections.abc import Iterator


@functools.cache
def quieten() -> None:
    """Silences orbax in this process: failures of its threads are raised anyway and need no log."""
    logging.getLogger("absl").addFilter(lambda record: "/orbax/" not in record.pathname)
    former = sys.unraisablehook

    def hook(unraisable):
        # Other files of the same checkpoint were still being read or written when one failed.
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        late = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        if not late and (code is None or "/orbax/" not in code.co_filename):
            former(unraisable)

    sys.unraisablehook = hook


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Around a read that may fail: reads that orbax has not started by then are dropped without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        try:
            yield
        except Exception:
            gc.collect()
            raise
