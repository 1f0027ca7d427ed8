"""Replaying the reverse process: what happened to each token at each step, as arrays and as a web page."""

from semdlm_jax.trace.events import EVENTS, Trace, curves, events
from semdlm_jax.trace.page import write_page

__all__ = ["EVENTS", "Trace", "curves", "events", "write_page"]
