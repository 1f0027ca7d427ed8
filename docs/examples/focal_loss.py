"""A loss of your own: it gives less weight to tokens that are already likely."""

import dataclasses

import jax.numpy as jnp

from semdlm_jax.objectives import Loss
from semdlm_jax.options import number
from semdlm_jax.plugins import field


@dataclasses.dataclass(frozen=True)
class Focal(Loss):
    """The cross-entropy, with less weight on tokens that are already likely."""

    focus: float = field(number(2.0, "[0, 10]", "how much less weight"))

    def terms(self, objective, x):
        loss = objective.posterior.cross_entropy(objective.kernel, x.logits, x.x0, x.xt, x.t)
        weight = x.importance * (1 - jnp.exp(-loss)) ** self.focus
        return weight * loss, weight
