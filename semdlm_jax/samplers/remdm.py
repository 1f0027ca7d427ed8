"""ReMDM (Wang et al., 2025): masked diffusion that masks written tokens anew.

With remask probability sigma, a written token goes to the mask with chance sigma, and a masked one stays so with chance
(1 - alpha_s - sigma alpha_t) / (1 - alpha_t), or takes its draft: P(mask) = 1 - alpha_s for every sigma that is at most
(1 - alpha_s) / alpha_t and the same at every position. The variants differ in sigma.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.samplers.methods import Method, step_to
from semdlm_jax.samplers.time_grid import steps_between, time_of

ETA = number(0.008, "[0, 1]", "chance of masking anew")


@dataclasses.dataclass(frozen=True)
class _Remasking(Method):
    def check(self, kernel):
        if not kernel.only_masks:
            raise UserError(
                "the remdm samplers mask written tokens anew: they need the kernel 'absorbing': "
                "give a run of it, or another sampler"
            )

    def sigma(self, largest, context, state):
        """The chance that a written token is masked; largest: what is allowed."""
        raise NotImplementedError

    def may_change(self, kernel, key, xt, context, state):
        return self._coins(kernel, key, xt, context, state)[0]

    def step(self, kernel, key, xt, proposal, context, state):
        writes, remasks = self._coins(kernel, key, xt, context, state)
        tokens = jnp.where(writes, proposal.draft, jnp.where(remasks, jnp.int32(kernel.mask_id), xt))
        return step_to(tokens, self.remember(state, writes & context.active, remasks & context.active, proposal))

    def _coins(self, kernel, key, xt, context, state):
        """(positions that are written, positions that are masked): neither depends on the drafts."""
        remask_key, write_key = jax.random.split(key)
        alpha_t, alpha_s = kernel.alpha(context.t), kernel.alpha(context.s)
        noise_t, noise_s = kernel.noise(context.t), kernel.noise(context.s)
        largest = jnp.minimum(ratio(noise_s, alpha_t, 1.0), 1.0)
        sigma = jnp.minimum(self.sigma(largest, context, state), largest)
        masked = xt == kernel.mask_id
        # alpha_s - (1 - sigma) alpha_t, of the chance that the position was masked.
        write = (alpha_s - alpha_t + sigma * alpha_t) / noise_t
        writes = masked & (jax.random.uniform(write_key, xt.shape, write.dtype) < write)
        remasks = ~masked & (jax.random.uniform(remask_key, xt.shape, sigma.dtype) < sigma)
        return writes, remasks

    def remember(self, state, writes, remasks, proposal):
        return state


@dataclasses.dataclass(frozen=True)
class Cap(_Remasking):
    """sigma = eta, as far as allowed. The authors' eta is for 1,024 tokens."""

    eta: float = field(ETA)

    def sigma(self, largest, context, state):
        return jnp.minimum(self.eta, largest)


@dataclasses.dataclass(frozen=True)
class Rescale(Cap):
    """sigma = eta of what is allowed."""

    eta: float = field(ETA, 0.015)

    def sigma(self, largest, context, state):
        return self.eta * largest


@dataclasses.dataclass(frozen=True)
class Confidence(_Remasking):
    """What is allowed, shared between the written tokens by a softmax of how unsure each was when it was written.

    Masked tokens have no sigma, as the authors have it, so that a sequence gets up to one mask too many a step.
    """

    def init(self, xt):
        return jnp.full(xt.shape, -jnp.inf, jnp.float32)

    def sigma(self, largest, context, unsure):
        unsure = jnp.where(context.active, unsure, -jnp.inf)
        highest = jnp.max(unsure, axis=-1, keepdims=True, initial=jnp.finfo(unsure.dtype).min)
        weight = jnp.exp(unsure - highest)
        return ratio(weight, jnp.sum(weight, axis=-1, keepdims=True), 0) * largest

    def remember(self, unsure, writes, remasks, proposal):
        return jnp.where(writes, -proposal.confidence, jnp.where(remasks, -jnp.inf, unsure))


@dataclasses.dataclass(frozen=True)
class Loop(_Remasking):
    """Plain steps up to alpha_on while t > t_on, then sigma = eta at that noise, then plain steps from t_off down."""

    eta: float = field(ETA, 0.02)
    t_on: float = field(number(0.55, "(0, 1)", "time at which the loop starts"))
    t_off: float = field(number(0.05, "(0, 1)", "time at which it ends"))
    alpha_on: float = field(number(0.9, "(0, 1)", "share of the text written while it loops"))

    def __post_init__(self):
        super().__post_init__()
        if not self.t_off < self.t_on:
            raise UserError(f"t_on = {self.t_on} and t_off = {self.t_off} must satisfy t_off < t_on")

    def between(self, kernel):
        """The grid's times are ReMDM's own; the kernel's are those at which it keeps as much."""

        def alpha(t):
            rising = (1 - t) * self.alpha_on / (1 - self.t_on)
            return np.where(t > self.t_on, rising, np.where(t > self.t_off, self.alpha_on, self._late(t)))

        def steps(times):
            t, s, _ = steps_between(times)
            loops = (t <= self.t_on) & (t > self.t_off)
            at_s = time_of(kernel, np.where(loops, self.alpha_on, alpha(s)))
            # Every step starts where the last one ended: the first one out of the loop, at alpha_on.
            at_t = np.append(time_of(kernel, alpha(t[:1])), at_s[:-1])
            return at_t, np.where(s > 0, at_s, 0), np.where(loops & (s > 0), self.eta, 0)

        return steps

    def _late(self, t):
        return 1 - t * (1 - self.alpha_on) / self.t_off

    def sigma(self, largest, context, state):
        return context.remask
