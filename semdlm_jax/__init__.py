"""Diffusion language models: kernels, objectives and samplers under one exact likelihood bound.

model = semdlm_jax.load("quickstart-mdlm")      a trained model, by its name or its folder
kernel = semdlm_jax.make_kernel("uniform", semdlm_jax.Vocabulary(size=100, mask_id=99))
"""

import importlib

from semdlm_jax.extras import require_for_program
from semdlm_jax.runtime.startup import is_program, leave_on_request, program_module

if is_program(__name__):
    leave_on_request()
    require_for_program(program_module())

# Each is imported at its first use: the mathematics alone needs few packages, and no program imports another one's.
_PUBLIC = {"load": "model", "Model": "model", "KERNELS": "kernels", "make_kernel": "kernels", "Vocabulary": "kernels"}
__all__ = ["KERNELS", "Model", "Vocabulary", "load", "make_kernel"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))]
