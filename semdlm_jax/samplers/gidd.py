"""GIDD's self-correction (von Rütte et al., 2025): finished text is revised, a token at a time.

Every position is proposed anew from p(x0 | the other tokens), sharpened, as if the text had a little noise left; of the
proposals that would change something the likeliest is taken. A sequence is done when the share of its tokens that the
network would write itself has not risen for `patience` corrections.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import put
from semdlm_jax.objectives.posterior import only_masks
from semdlm_jax.samplers.methods import Ancestral


@dataclasses.dataclass(frozen=True)
class SelfCorrecting(Ancestral):
    """Ancestral steps, then `corrections` network evaluations more. correct_temperature, correct_time: of the
    proposals. at_once: positions changed by one correction."""

    corrections: int = 64
    correct_temperature: float = 0.1
    correct_time: float = 0.01
    patience: int = 32
    at_once: int = 1

    def check(self, kernel):
        if only_masks(kernel):
            raise UserError("gidd_correct revises written tokens, which the kernel 'absorbing' takes for certain")

    def correct(self, text, proposal, active, progress):
        """(text, progress) after one correction. progress: (share, since), the best share of tokens kept so far and the
        corrections since, both [B]; -1 and 0 before the first."""
        best, since = progress
        share = jnp.mean((proposal.draft == text) | ~active, axis=-1)
        since = jnp.where((share > best) & (since < self.patience), 0, since + 1)
        changes = active & (proposal.draft != text) & (since < self.patience)[:, None]
        confidence = jnp.where(changes, proposal.confidence, -1)
        # By place: sharpened confidences are often equal.
        _, likeliest = jax.lax.top_k(confidence, min(self.at_once, text.shape[-1]))
        chosen = put(jnp.zeros_like(changes), likeliest, jnp.ones_like(likeliest))
        text = jnp.where(changes & chosen, proposal.draft, text)
        return text, (jnp.maximum(best, share), since)
