"""A sampler of your own: the exact reverse step, in which some positions wait."""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.samplers import Method
from semdlm_jax.samplers.methods import step_to


@dataclasses.dataclass(frozen=True)
class Lazy(Method):
    """In each step, a position stays as it is with probability `waiting`."""

    waiting: float = field(number(0.2, "[0, 1)", "the probability that a position stays as it is"))

    def step(self, kernel, key, xt, proposal, context, state):
        wait_key, step_key = jax.random.split(key)
        xs = kernel.reverse_step(step_key, xt, proposal.draft, context.t, context.s)
        return step_to(jnp.where(jax.random.bernoulli(wait_key, self.waiting, xt.shape), xt, xs))
