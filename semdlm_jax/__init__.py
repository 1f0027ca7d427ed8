"""Diffusion language models: kernels, objectives and samplers under one exact likelihood bound.

`semdlm_jax.load(NAME)` is a trained model, by its name or its folder; `KERNELS`, `make_kernel` and `Vocabulary` are the
kernels by name.
"""

import importlib

from semdlm_jax.extras import require_for_program
from semdlm_jax.runtime.startup import is_program, leave_on_request

if is_program(__name__):
    leave_on_request()
    require_for_program()

# Imported when they are asked for: the mathematics alone needs few packages, and a program none of another's.
_PUBLIC = {"load": "model", "Model": "model", "KERNELS": "kernels", "make_kernel": "kernels", "Vocabulary": "kernels"}
__all__ = ["KERNELS", "Model", "Vocabulary", "load", "make_kernel"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_PUBLIC]
