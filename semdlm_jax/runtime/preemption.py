"""Stopping between two steps instead of in the middle of one, at the same step in all processes of a run."""

import signal

import jax
from jax.experimental import multihost_utils


class GracefulStop:
    """`with GracefulStop() as stop:` SIGTERM or SIGINT asks for a stop; a second SIGINT raises KeyboardInterrupt.

    The loop calls `agreed` before its first step and after each, saves and leaves. The former handlers come back on
    exit. Only in the main thread (Python's rule for signal handlers). One of several processes is asked through JAX,
    which has listened since `distributed.start`: nothing is installed here.
    """

    def __init__(self):
        self.requested = False
        self._interrupted = False
        self._former = {}
        self._calls = 0

    def agreed(self) -> bool:
        """Whether to stop now. Of several processes all must call it equally often: a request to any of them makes it
        True in the same call of each, some calls later."""
        if not jax.distributed.is_initialized():
            return self.requested
        # Counted from the start, as JAX counts: it would wait for ever for the step of a run that was continued.
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
