"""How one step of the reverse process is taken, for kernels of any kind; `remdm`, `sedd` and `gidd` have the others.

To add one: extend `Method` and list it in `samplers.METHODS`, or name it as `module:Class`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase, return_rates, reverse_step
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, field
from semdlm_jax.samplers import time_grid
from semdlm_jax.samplers.controls import Controls


class StepContext(NamedTuple):
    """A step from time t to time s < t. t, s, remask: scalars, of the plan. active: [B, L] bool, where it may act."""

    t: jax.Array
    s: jax.Array
    remask: jax.Array
    active: jax.Array


class Proposal(NamedTuple):
    """What the network says at time t. draft: [B, L] int32, x~_0 ~ p_theta(. | x_t) (of `sedd`: x_s). confidence:
    [B, L], the probability of the draft before truncation. current: [B, L], that of x_t itself, p_theta(x_t^i | x_t).
    """

    draft: jax.Array
    confidence: jax.Array
    current: jax.Array


class Step(NamedTuple):
    """tokens: [B, L] int32 at time s. frozen: [B, L] bool, held back whatever was drawn. state: the method's own."""

    tokens: jax.Array
    frozen: jax.Array
    state: object = None


@dataclasses.dataclass(frozen=True)
class Method(Plugin):
    """A step of the reverse process. clean_drafts: whether what is drawn is text. corrections: network evaluations on
    finished text, by `correct`. correction_time: the time that the network is told then. UserError for an option out
    of its range."""

    clean_drafts = True
    corrections = 0
    correction_time = 0.0

    def check(self, kernel: KernelBase):
        """UserError when the method makes no sense with this kernel."""

    def between(self, kernel: KernelBase):
        """times -> (t, s, remask) of a stride: what `make_plan` asks."""
        return time_grid.steps_between

    def init(self, xt):
        """The state before the first step."""
        return None

    def log_weights(self, kernel, posterior, logits, xt, t, s):
        """Unnormalized log-weights [..., V] of what is drawn; logits [..., V], xt [...], times that broadcast."""
        return posterior.log_weights(kernel, logits, xt, t)

    def step(self, kernel: KernelBase, key, xt, proposal: Proposal, context: StepContext, state) -> Step:
        """Acts everywhere; what is not active is put back afterwards."""
        raise NotImplementedError

    def correction_controls(self, controls: Controls) -> Controls:
        """The controls of draws for corrections."""
        return controls

    def correct(self, text, proposal: Proposal, active, progress):
        """(text [B, L], progress) after one correction. progress: two arrays [B], of -1 and of 0 before the first."""
        raise NotImplementedError


def step_to(tokens, state=None):
    return Step(tokens, jnp.zeros(tokens.shape, bool), state)


@dataclasses.dataclass(frozen=True)
class Ancestral(Method):
    """Algorithm 2 with the process of `kernels.reverse`: exact for any step size when the draft is."""

    def step(self, kernel, key, xt, proposal, context, state):
        return step_to(reverse_step(kernel, key, xt, proposal.draft, context.t, context.s))


@dataclasses.dataclass(frozen=True)
class TauLeaping(Method):
    """Campbell et al. (2022): in (s, t] a token turns out to have arrived with chance 1 - exp(-h (t - s)), h its rate
    at t given the draft, and goes back to where it came from at t: to the draft, or to noise."""

    def step(self, kernel, key, xt, proposal, context, state):
        arrive_key, return_key, noise_key = jax.random.split(key, 3)
        draft = proposal.draft
        chance = -jnp.expm1(-kernel.arrival_rate(xt, draft, context.t) * (context.t - context.s))
        arrived = jax.random.uniform(arrive_key, xt.shape, chance.dtype) < chance
        returned, _ = return_rates(kernel, context.t)
        back = jax.random.uniform(return_key, xt.shape, returned.dtype) < returned[draft]
        return step_to(jnp.where(arrived, jnp.where(back, draft, kernel.sample_noise(noise_key, draft, context.t)), xt))


@dataclasses.dataclass(frozen=True)
class Blockwise(Method):
    """The paper's predictor (E.1): the draft, corrupted to time s, replaces a token with the chance of Eq. 121,

        (p_t - p_s) / p_t (1 - p_theta(x_t^i | x_t))^rho,     p_t = 1 - alpha_t,

    and tokens of a confidence p_theta(x_t^i | x_t) above `freeze` stay; at 1 none is held. Not exact for any step size.
    """

    rho: float = field(number(1.0, "[0, 1000]", "weight of confidence in Eq. 121"))
    freeze: float = field(number(1.0, "[0, 1]", "confidence above which a token stays; 1: none does"))

    def step(self, kernel, key, xt, proposal, context, state):
        coin_key, noise_key = jax.random.split(key)
        noise_t, noise_s = kernel.noise(context.t), kernel.noise(context.s)
        chance = (noise_t - noise_s) / noise_t * (1 - proposal.current) ** self.rho
        frozen = proposal.current > self.freeze
        replaced = (jax.random.uniform(coin_key, xt.shape, chance.dtype) < chance) & ~frozen
        projected = kernel.corrupt(noise_key, proposal.draft, jnp.broadcast_to(context.s, xt.shape))
        return Step(jnp.where(replaced, projected, xt), frozen)
