"""What a user can set for the draws of every sampler: temperature, truncation, forbidden tokens, a penalty."""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.samplers.categorical import draw, truncate
from semdlm_jax.samplers.penalty import Penalty
from semdlm_jax.samplers.settings import check_settings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Controls:
    """Values may be traced, so that one compilation serves all; what is None is not compiled.

    Args:
        temperature: divides the network's logits, but not the likelihood of x_t that the parameterization `bayes`
            multiplies them by. 0 takes the most likely clean token.
        greedy_end: whether every stride's last step takes the most likely token.
        top_k, top_p: as for `categorical.truncate`, of the posterior that is drawn from.
        forbidden_V: [V] bool, ids that text never holds.
        penalty: on the network's logits.
    """

    temperature: jax.Array | float = 1.0
    greedy_end: jax.Array | bool = False
    top_k: jax.Array | int | None = None
    top_p: jax.Array | float | None = None
    forbidden_V: jax.Array | None = None
    penalty: Penalty | None = None

    def greedy(self, s):
        """Whether a step to time s takes the likeliest token."""
        return (jnp.asarray(self.temperature) == 0) | (self.greedy_end & (s == 0))

    @property
    def truncates(self):
        """Whether draws are from a part of the posterior."""
        return self.top_k is not None or self.top_p is not None

    def sharpen(self, logits):
        return logits / jnp.where(jnp.asarray(self.temperature) == 0, 1.0, self.temperature)

    def forbid(self, log_weights):
        """-inf at the forbidden ids."""
        return log_weights if self.forbidden_V is None else jnp.where(self.forbidden_V, -jnp.inf, log_weights)

    def choose(self, key, logits_BxV, text_BxL, position):
        """Draws, for the chain rule, tokens [B] int32 that follow the first `position` tokens of a text."""
        if self.penalty is not None:
            logits_BxV = self.penalty.after(logits_BxV, text_BxL, position)
        weights = truncate(self.forbid(self.sharpen(logits_BxV)), self.top_k, self.top_p)
        return draw(key, weights, greedy=self.greedy(1.0))[0]


def make_controls(
    table,
    *,
    temperature=1.0,
    greedy_end=False,
    top_k=0,
    top_p=1.0,
    lambda_freq=0.0,
    lambda_sem=0.0,
    window=0,
    forbidden_V=None,
):
    """Controls from plain numbers.

    Args:
        table: the NeighborTable that lambda_sem reads; None where lambda_freq and lambda_sem are 0.
        temperature, greedy_end, forbidden_V: as Controls has them.
        top_k: 0 for no limit.
        top_p: 1 for no limit.
        lambda_freq, lambda_sem: weights of the penalty (Eq. 23); 0 for none.
        window: positions of the penalty's window; 0 for the whole sequence.

    Raises:
        UserError: a value out of its range, or lambda_sem without neighbors.

    Example:

        >>> from semdlm_jax.samplers import make_controls
        >>> controls = make_controls(None, temperature=0.5, top_p=0.9)
        >>> float(controls.top_p), controls.top_k, controls.truncates
        (0.8999999761581421, None, True)
    """
    check_settings(temperature=temperature, greedy_end=greedy_end, top_k=top_k, top_p=top_p)
    check_settings(lambda_freq=lambda_freq, lambda_sem=lambda_sem, window=window)
    if lambda_sem and not table.k_max:
        raise UserError(
            f"lambda_sem = {lambda_sem:g} weighs neighbors, and this run has none: build a table of them with "
            "python -m semdlm_jax.semantics.build, or set lambda_sem to 0"
        )
    penalty = None
    if lambda_freq or lambda_sem:
        penalty = Penalty(table, jnp.float32(lambda_freq), jnp.float32(lambda_sem), window or None)
    return Controls(
        temperature=jnp.float32(temperature),
        greedy_end=jnp.asarray(greedy_end),
        top_k=jnp.int32(top_k) if top_k else None,
        top_p=jnp.float32(top_p) if top_p < 1 else None,
        forbidden_V=forbidden_V,
        penalty=penalty,
    )
