"""The network. Only this folder imports flax.linen; other code uses `Denoiser`."""

from semdlm_jax.network.backbone import Denoiser
from semdlm_jax.network.sharding import RULES

__all__ = ["RULES", "Denoiser"]
