"""Stopping a training between two steps, at the same step in all processes of a run."""

import signal

import jax
from jax.experimental import multihost_utils


class GracefulStop:
    """`with GracefulStop() as stop:` makes SIGTERM and SIGINT request a stop; a second SIGINT raises KeyboardInterrupt.

    The loop calls `agreed` before its first step and after each step; if it is True, the loop saves and ends. The
    former signal handlers are restored on exit. To be used in the main thread (Python's rule for signal handlers). With
    several processes JAX receives the signals since `distributed.start`, and no handlers are installed here.
    """

    def __init__(self):
        self.requested = False
        self._interrupted = False
        self._former = {}
        self._calls = 0

    def agreed(self) -> bool:
        """Whether to stop now.

        Several processes must all call it equally often. After a request to any of them it becomes True in the same
        call of each, some calls later.
        """
        if not jax.distributed.is_initialized():
            return self.requested
        # Counted from this start, as JAX does: with the step of a continued run it would wait forever.
        self._calls += 1
        return multihost_utils.reached_preemption_sync_point(self._calls)

    def _handle(self, signum, frame):
        if signum == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.requested = True

    def __enter__(self):
        if not jax.distributed.is_initialized():
            self._former = {signum: signal.signal(signum, self._handle) for signum in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
