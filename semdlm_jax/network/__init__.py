"""The backbone behind a seam: only this room imports flax.linen."""

from semdlm_jax.network.backbone import Denoiser
from semdlm_jax.network.sharding import RULES

__all__ = ["RULES", "Denoiser"]
