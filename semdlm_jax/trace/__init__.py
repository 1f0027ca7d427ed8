"""Replaying the reverse process: what happened to each token at each step, as arrays and as a web page."""

from semdlm_jax.trace.events import EVENTS, Trace, curves, events
from semdlm_jax.trace.page import write_page
from semdlm_jax.trace.symbols import symbol_names

__all__ = ["EVENTS", "Trace", "curves", "events", "symbol_names", "write_page"]
