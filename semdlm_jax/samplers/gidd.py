"""GIDD's self-correction (von Rütte et al., 2025): finished text is revised, one token at a time.

Every position is proposed anew from p(x0 | the other tokens), sharpened, as if the text had a little noise left; of the
proposals that would change something the likeliest is taken. A sequence is done when the share of its tokens that the
network would write itself has not risen for `patience` corrections.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import put
from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.samplers.methods import Ancestral


@dataclasses.dataclass(frozen=True)
class SelfCorrecting(Ancestral):
    """Ancestral steps, then `corrections` more network evaluations on finished text."""

    corrections: int = field(number(64, "[1, 100000]", "evaluations after the steps"))
    correct_temperature: float = field(number(0.1, "[1e-6, 1000]", "of corrections"))
    correct_time: float = field(number(0.01, "[0, 1]", "time that the network is told in corrections"))
    patience: int = field(number(32, "[1, 100000]", "corrections without gain before it stops"))
    at_once: int = field(number(1, "[1, 1048576]", "positions changed by one correction"))

    @property
    def correction_time(self):
        return self.correct_time

    def correction_controls(self, controls):
        return dataclasses.replace(controls, temperature=jnp.float32(self.correct_temperature))

    def check(self, kernel):
        if kernel.only_masks:
            raise UserError(
                "gidd_correct revises written tokens, which the kernel 'absorbing' takes for certain: "
                "give a run of another kernel, or another sampler"
            )

    def correct(self, text, proposal, active, progress):
        """(text, progress) after one correction. progress: (share, since), the best share of tokens kept so far and the
        corrections since, both [B]; -1 and 0 before the first."""
        best, since = progress
        share = jnp.mean((proposal.draft == text) | ~active, axis=-1)
        since = jnp.where((share > best) & (since < self.patience), 0, since + 1)
        changes = active & (proposal.draft != text) & (since < self.patience)[:, None]
        confidence = jnp.where(changes, proposal.confidence, -1)
        # By index and not by a threshold: sharpened confidences are often equal.
        _, likeliest = jax.lax.top_k(confidence, min(self.at_once, text.shape[-1]))
        chosen = put(jnp.zeros_like(changes), likeliest, jnp.ones_like(likeliest))
        text = jnp.where(changes & chosen, proposal.draft, text)
        return text, (jnp.maximum(best, share), since)
