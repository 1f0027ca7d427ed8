"""How one step of the reverse process is taken, for kernels of any kind; `remdm`, `sedd` and `gidd` have the others.

To add one: extend `Method` and list it in `samplers.METHODS`, or name it as `module:Class`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.protocol import coin
from semdlm_jax.kernels.shapes import misfit
from semdlm_jax.objectives.bound import T_NUMERIC_MAX
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, field
from semdlm_jax.samplers import time_grid
from semdlm_jax.samplers.controls import Controls
from semdlm_jax.users_code import defined_with


class StepContext(NamedTuple):
    """A step from time t to time s < t.

    Args:
        t, s, remask: scalars, of the plan.
        active: [B, L] bool, the positions that the step may change.
        proposed: [B, L] bool, the positions that have a proposal; True: all.
    """

    t: jax.Array
    s: jax.Array
    remask: jax.Array
    active: jax.Array
    proposed: jax.Array | bool = True


class Proposal(NamedTuple):
    """What the network proposes at time t.

    Args:
        draft: [B, L] int32, x~_0 ~ p_theta(x_0 | x_t); for `sedd` x_s ~ p_theta(x_s | x_t).
        confidence: [B, L], the probability of the draft before truncation.
        current: [B, L], the probability p_theta(x_t^i | x_t) of the token that is there.
    """

    draft: jax.Array
    confidence: jax.Array
    current: jax.Array


class Step(NamedTuple):
    """The result of a step.

    Args:
        tokens: [B, L] int32 at time s.
        frozen: [B, L] bool, positions that the method did not let change.
        state: the method's own.
    """

    tokens: jax.Array
    frozen: jax.Array
    state: object = None


@dataclasses.dataclass(frozen=True)
class Method(Plugin):
    """A step of the reverse process.

    Attributes:
        clean_drafts: whether drafts are clean text, x_0, and not x_s.
        continuous: whether there are no steps: `exact.walk` goes from event to event.
        corrections: network evaluations on finished text, by `correct`.
        correction_time: the time that the network is given for these.

    Raises:
        UserError: an option out of its range.
    """

    RETURNS = {
        "step": lambda found, kernel, key, xt, proposal, context, state: _step_problem(found, xt, state),
        "may_change": lambda found, kernel, key, xt, context, state: _choice_problem(found, xt),
    }
    clean_drafts = True
    continuous = False
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
        """Log-weights [..., V], not normalized, of the draft; logits [..., V], xt [...], times that broadcast."""
        return posterior.log_weights(kernel, logits, xt, t)

    def may_change(self, kernel: KernelBase, key, xt, context: StepContext, state) -> jax.Array | None:
        """[B, L] bool: the positions whose proposal `step` reads when it is given this key. None: it may be all."""
        return None

    def chosen(self, kernel: KernelBase, key, xt, context: StepContext, state) -> jax.Array | None:
        """`may_change`, and None where a class that extends the method has another `step` and says nothing of it."""
        fits = defined_with(type(self), "may_change", "step")
        return self.may_change(kernel, key, xt, context, state) if fits else None

    def step(self, kernel: KernelBase, key, xt, proposal: Proposal, context: StepContext, state) -> Step:
        """Steps at every position; those that are not active are restored afterwards.

        Args:
            kernel: the process.
            key: a JAX random key.
            xt: [B, L] int32, tokens at time t.
            proposal: what the network proposes.
            context: times and active positions.
            state: the method's own, as `init` or its last step returned it.
        """
        raise NotImplementedError

    def correction_controls(self, controls: Controls) -> Controls:
        """The controls of draws for corrections."""
        return controls

    def correct(self, text, proposal: Proposal, active, progress):
        """(text [B, L], progress) after one correction. progress: two arrays [B], of -1 and of 0 before the first."""
        raise NotImplementedError


def _step_problem(found, xt, state):
    """What is wrong with the result of a user's own `step` from xt and its state; '' for a Step."""
    told = f"[B, L], here {list(xt.shape)}"
    if not isinstance(found, Step):
        return f"a {type(found).__name__}: return a Step, as methods.step_to(tokens) does"
    if wrong := misfit(found.tokens, xt.shape, jnp.integer):
        return f"a Step whose tokens are {wrong}: return token ids, integers {told}"
    if wrong := misfit(found.frozen, xt.shape, jnp.bool_):
        return f"a Step whose `frozen` is {wrong}: return booleans {told}"
    before, after = (jax.eval_shape(lambda state=state: state) for state in (state, found.state))
    if before != after:
        return f"a Step whose state is {after}: return one like that of `init`, {before}"
    return ""


def _choice_problem(found, xt):
    """What is wrong with the result of a user's own `may_change` from xt; '' for None or booleans of its shape."""
    wrong = found is not None and misfit(found, xt.shape, jnp.bool_)
    return f"{wrong}: return booleans [B, L], here {list(xt.shape)}, or None" if wrong else ""


def step_to(tokens, state=None) -> Step:
    """A Step to these tokens in which no position is frozen."""
    return Step(tokens, jnp.zeros(tokens.shape, bool), state)


def known_bound(kernel: KernelBase, xt, t, s=None) -> jax.Array | None:
    """`KernelBase.leaving_bound`, and None where a class that extends the kernel has another process and says nothing
    of its bound."""
    fits = defined_with(type(kernel), "leaving_bound", "origins", "transitions", "reverse_step", "reverse_leap")
    return kernel.leaving_bound(xt, t, s) if fits else None


def _below(numbers, bound):
    return None if bound is None else numbers < bound


@dataclasses.dataclass(frozen=True)
class Ancestral(Method):
    """Algorithm 2 with the process of `kernels.reverse`: exact for any step size when the draft is."""

    def may_change(self, kernel, key, xt, context, state):
        return _below(coin(key, xt)[0], known_bound(kernel, xt, context.t, context.s))

    def step(self, kernel, key, xt, proposal, context, state):
        xs = kernel.reverse_step(key, xt, proposal.draft, context.t, context.s)
        return step_to(jnp.where(context.proposed, xs, xt))


@dataclasses.dataclass(frozen=True)
class TauLeaping(Method):
    """In (s, t] a token leaves its value with chance 1 - exp(-R (t - s)), R the rate of changes to any other token at t
    given the draft. It then goes to one of these in proportion to their rates: to the draft, or to noise of time t.
    Exact only for small steps.

    At t = 1, where rates may be infinite, they are those of the time at which the bound takes them.

    Source:
        Campbell et al. (2022), "A continuous time framework for discrete denoising models".
    """

    def may_change(self, kernel, key, xt, context, state):
        t, s = self._times(context)
        rate = known_bound(kernel, xt, t)
        return _below(coin(key, xt)[0], None if rate is None else -jnp.expm1(-rate * (t - s)))

    def step(self, kernel, key, xt, proposal, context, state):
        xs = kernel.reverse_leap(key, xt, proposal.draft, *self._times(context))
        return step_to(jnp.where(context.proposed, xs, xt))

    def _times(self, context):
        t = jnp.minimum(context.t, T_NUMERIC_MAX)
        return t, jnp.minimum(context.s, t)


@dataclasses.dataclass(frozen=True)
class Blockwise(Method):
    """The paper's predictor (E.1): the draft, corrupted to time s, replaces a token with the chance of Eq. 121,

        (p_t - p_s) / p_t (1 - p_theta(x_t^i | x_t))^rho,     p_t = 1 - alpha_t,

    and tokens whose confidence p_theta(x_t^i | x_t) is above `freeze` stay; at 1 none do. It is not exact at any step
    size.
    """

    rho: float = field(number(1.0, "[0, 1000]", "weight of confidence in Eq. 121"))
    freeze: float = field(number(1.0, "[0, 1]", "confidence above which a token stays; 1: none does"))

    def may_change(self, kernel, key, xt, context, state):
        return coin(key, xt)[0] < self._lost(kernel, context)

    def step(self, kernel, key, xt, proposal, context, state):
        numbers, noise_key = coin(key, xt)
        chance = self._lost(kernel, context) * (1 - proposal.current) ** self.rho
        frozen = proposal.current > self.freeze
        replaced = context.proposed & (numbers < chance) & ~frozen
        projected = kernel.corrupt(noise_key, proposal.draft, jnp.broadcast_to(context.s, xt.shape))
        return Step(jnp.where(replaced, projected, xt), frozen)

    def _lost(self, kernel, context):
        """The share of the noise that goes: what Eq. 121 is at most."""
        noise_t = kernel.noise(context.t)
        return (noise_t - kernel.noise(context.s)) / noise_t
