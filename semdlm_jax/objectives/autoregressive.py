"""The chain rule: the autoregressive reference, trained and scored beside the diffusion models."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from semdlm_jax.objectives.base import NoisyBatch, ObjectiveBase, Scoring, SequenceTerms, check_tokens
from semdlm_jax.objectives.chunking import each_position, sum_losses

AUTOREGRESSIVE = "autoregressive"  # its name as an objective: it is no loss on a kernel's noise


@dataclasses.dataclass(frozen=True)
class Autoregressive(ObjectiveBase):
    """The chain rule: every token from those before it. The network must be causal.

    Attributes:
        start_id: stands before the first token; no text contains it.
        chunk: positions of logits alive at a time; 0: all.
    """

    exact = True

    start_id: int
    chunk: int = 0

    @property
    def any_kernel(self) -> bool:
        return False

    def check_times(self) -> None:
        """Its tokens have no times."""

    def corrupt(self, key, x0_BxL, mask_BxL) -> NoisyBatch:
        """The tokens one place later and times of zero: what the network reads."""
        del key
        check_tokens(x0_BxL, mask_BxL)
        return NoisyBatch(x0_BxL, self.shifted(x0_BxL), jnp.zeros(x0_BxL.shape[0]), mask_BxL)

    def shifted(self, x0_BxL: jax.Array) -> jax.Array:
        start = jnp.full_like(x0_BxL[:, :1], self.start_id)
        return jnp.concatenate([start, x0_BxL[:, :-1]], axis=1)

    def log_losses(self, logits: jax.Array, x0: jax.Array) -> jax.Array:
        """-log p(x0 | the tokens before), shape of x0; the start token has probability zero."""
        allowed = jnp.where(jnp.arange(logits.shape[-1]) == self.start_id, -jnp.inf, logits)
        return -jnp.take_along_axis(jax.nn.log_softmax(allowed, axis=-1), x0[..., None], axis=-1)[..., 0]

    def sums(self, readout, features_BxLxD, batch, key):
        """(sum of negative log-likelihoods in nats, number of tokens) over the positions that the mask marks."""
        del key

        def positions(logits, x0, mask):
            return jnp.sum(jnp.where(mask, self.log_losses(logits, x0), 0)), jnp.sum(mask, dtype=jnp.float32)

        return sum_losses(positions, readout, features_BxLxD, batch.x0, batch.mask, chunk=self.chunk)

    def position_terms(self, denoiser, scoring: Scoring, posterior=None) -> Callable:
        """The negative log-likelihood by the chain rule, as the integral of a SequenceTerms without noise. Rows need
        no lengths: nothing sees the padding behind it."""
        del posterior

        def terms(params, key, batch, draw):
            del draw
            x0_BxL, xt_BxL, t_B, mask_BxL, _ = self.corrupt(key, batch["tokens"], batch["mask"])
            features = denoiser.features(params, xt_BxL, t_B)

            def positions(features, x0, mask):
                losses = self.log_losses(denoiser.logits(params, features), x0)
                return jnp.where(mask, losses, 0)

            nothing = jnp.zeros(x0_BxL.shape)
            total = each_position(positions, features, x0_BxL, mask_BxL, chunk=scoring.chunk)
            return SequenceTerms(total, nothing, nothing, mask_BxL)

        return terms
