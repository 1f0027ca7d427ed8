"""Stopping between two steps instead of in the middle of one."""

import signal


class GracefulStop:
    """`with GracefulStop() as stop:` SIGTERM or SIGINT sets `stop.requested`; a second SIGINT raises KeyboardInterrupt.

    The loop looks at `requested` after each step, saves and leaves. The former handlers come back on exit. Only in the
    main thread (Python's rule for signal handlers). The flag is this process's own: several must agree on it.
    """

    def __init__(self):
        self.requested = False
        self._interrupted = False
        self._former = {}

    def _handle(self, signum, frame):
        if signum == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.requested = True

    def __enter__(self):
        self._former = {signum: signal.signal(signum, self._handle) for signum in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
