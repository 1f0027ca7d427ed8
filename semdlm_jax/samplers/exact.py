"""The reverse process in continuous time, from event to event: its law has no error of steps.

Position i of x_t leaves its value z for v at the rate

    sum_k p_theta(x0^i = k | x_t) R_t(z -> v | k),    R_t the rates of `kernel.reverse`.

This is simulated by thinning. Candidates come at a rate that dominates the sum over the positions of
B_t(z) = max_k sum_v R_t(z -> v | k) (`KernelBase.leaving_bound`), and one belongs to a position in proportion to it. Most
candidates that are not to be are dropped for B_t alone; so those that are left come at the rate sum_i B_t(x_t^i) exactly.
For each the network is evaluated, x0 is drawn from it at that one position, and with chance R_t(z | x0) / B_t(z) the
token changes, to v in proportion to R_t(z -> v | x0).

Rows run each at a time of its own, in one batch. Under masks B_t is what every mask has, so that no evaluation is lost:
L masks take L evaluations at most, and the masks of a row fall as the first-hitting sampler has it.

The dominating rate is MARGIN times the largest of B_t at POINTS of a cell of time. Cells end where t, 1 - t or the
distance to the kernel's next earlier kink have shrunk by the share WIDTH: there B_t may grow as 1 over each of them.

Source:
    Lewis and Shedler (1979), "Simulation of nonhomogeneous Poisson processes by thinning"; Chen and Ying (2024),
    "Convergence analysis of discrete diffusion model: exact implementation through uniformization"; Zheng et al.
    (2025), "Masked diffusion models are secretly time-agnostic masked models", for masks.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.leaving import by_trying
from semdlm_jax.kernels.numerics import at_token
from semdlm_jax.objectives.bound import T_NUMERIC_MAX
from semdlm_jax.samplers.categorical import draw
from semdlm_jax.samplers.methods import Method, known_bound
from semdlm_jax.samplers.proposing import Proposer, Seen, evaluations_of
from semdlm_jax.samplers.time_grid import Plan

WIDTH = 0.25
POINTS = (0.0, 0.5, 1.0)
MARGIN = 1.25
# Nearer to a kink than this share of t no event is looked for: float32 does not tell such times apart.
SLIVER = 2.0**-20
# The share by which rounding may bring a rate above its bound.
ROUNDING = 1e-5
# What `Exact.check` looks at.
TRIED_STATES, TRIED_STARTS, TRIED_KINKS, TRIED_POINTS = 16, 64, 8, 9
FEW_STATES, FEW_STARTS = 4, 8


@dataclasses.dataclass(frozen=True)
class Exact(Method):
    """The reverse process in continuous time. Steps say only when a trajectory that is recorded is looked at."""

    continuous = True

    def check(self, kernel):
        """UserError where the bound of a kernel's rates is not finite, or exceeds what is taken for it, inside of a
        cell. A kernel under jit, whose values are not known, is not checked."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(kernel)):
            return
        with jax.ensure_compile_time_eval():
            _check_bound(kernel)


def rate_bound(kernel: KernelBase, xt: jax.Array, t: jax.Array) -> jax.Array:
    """B_t(z), in 1 / unit of t: [N, B, L] of tokens [B, L] at times [N, B]."""
    times, wide = t[..., None], jnp.broadcast_to(xt, (*t.shape[:1], *xt.shape))
    bound = known_bound(kernel, wide, times)
    if bound is not None:
        return jnp.broadcast_to(bound, wide.shape)
    # [N, B] at a time: of all clean tokens at once this is [N, B, V].
    by_position = jax.lax.map(lambda tokens: by_trying(kernel, tokens, t), jnp.moveaxis(wide, -1, 0))
    return jnp.moveaxis(by_position, 0, -1)


def cell_end(t: jax.Array, kinks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(where a cell from t on ends, whether it is a sliver above a kink); shape of t."""
    below = jnp.max(jnp.where(kinks < t[..., None], kinks, 0), axis=-1, initial=0)
    sliver = t - below < SLIVER * t
    whole = t - WIDTH * jnp.minimum(jnp.minimum(t, 1 - t), t - below)
    return jnp.where(sliver, below * (1 - SLIVER), whole), sliver


def dominating_rate(kernel: KernelBase, xt: jax.Array, t: jax.Array, end: jax.Array) -> jax.Array:
    """[B, L] of tokens [B, L]: what `rate_bound` does not exceed from the times t [B] back to end [B]."""
    times = jnp.stack([t + share * (end - t) for share in POINTS])
    return MARGIN * jnp.max(rate_bound(kernel, xt, times), axis=0)


class _Rows(NamedTuple):
    """Rows of text on their ways.

    Args:
        key: for all that is to come.
        x: [B, L] int32.
        index: [B], the entry of the plan that each is in; N behind the last.
        t: [B], its time.
        confidence: [R, L], of the last draft that was taken at each position of the recorded rows.
        evaluations: of the network, so far.
    """

    key: jax.Array
    x: jax.Array
    index: jax.Array
    t: jax.Array
    confidence: jax.Array
    evaluations: jax.Array


class _Candidates(NamedTuple):
    """place: [B], the position of a candidate; -1 without one. bound: [B], B_t of its token."""

    key: jax.Array
    index: jax.Array
    t: jax.Array
    place: jax.Array
    bound: jax.Array


@dataclasses.dataclass(frozen=True)
class _Walk:
    """What does not change on the way. goal: [N], the entry at whose time the rows of one look up again."""

    proposer: Proposer
    method: Method
    is_given_BxL: jax.Array
    lengths_B: jax.Array
    plan: Plan
    goal: jax.Array
    kinks: jax.Array

    @property
    def kernel(self):
        return self.proposer.kernel

    def at(self, values, index):
        """values [N] at entries [B]."""
        return values[jnp.minimum(index, len(values) - 1)]

    def active(self, index):
        """[B, L] bool: the positions of the stride that a row is in."""
        start, stop = (self.at(values, index)[:, None] for values in (self.plan.start, self.plan.stop))
        position = jnp.arange(self.is_given_BxL.shape[1])
        return (position >= start) & (position < stop) & ~self.is_given_BxL

    def writes(self, index):
        """[B] bool: whether what noise is left takes the draft, as a stride's last entry has it."""
        return (self.at(self.plan.s, index) == 0) & (index < len(self.plan.s))

    def seek(self, rows: _Rows, limit) -> _Candidates:
        """The next candidate of every row, where there is one before it writes or comes to the entry `limit`."""

        def looks(now):
            return (now.place < 0) & (now.index < limit) & ~self.writes(now.index)

        def look(now):
            key, gap_key, place_key, keep_key = jax.random.split(now.key, 4)
            goal = self.at(self.goal, now.index)
            until = self.plan.s[goal - 1]
            end, sliver = cell_end(now.t, self.kinks)
            end = jnp.maximum(end, until)
            rates = dominating_rate(self.kernel, rows.x, now.t, end)
            rates = jnp.where(self.active(now.index) & ~sliver[:, None], rates, 0)
            gap = jax.random.exponential(gap_key, now.t.shape, now.t.dtype) / jnp.sum(rates, axis=-1)
            inside = now.t - gap > end
            t = jnp.where(inside, now.t - gap, end)
            place = draw(place_key, jnp.log(rates))[0]
            bound = rate_bound(self.kernel, at_token(rows.x, place)[:, None], t[None])[0, :, 0].astype(t.dtype)
            kept = inside & (jax.random.uniform(keep_key, t.shape) * at_token(rates, place) < bound)
            arrives = ~inside & (end <= until)
            index = jnp.where(arrives, goal, now.index)
            t = jnp.where(arrives, self.at(self.plan.t, goal), t)
            new = _Candidates(key, index, t, jnp.where(kept, place, -1), bound)
            searching = looks(now)
            return _Candidates(key, *(jnp.where(searching, a, b) for a, b in zip(new[1:], now[1:], strict=True)))

        none = jnp.full(rows.index.shape, -1)
        first = _Candidates(rows.key, rows.index, rows.t, none, jnp.zeros(none.shape, rows.t.dtype))
        return jax.lax.while_loop(lambda now: jnp.any(looks(now)), look, first)

    def event(self, rows: _Rows, limit) -> _Rows:
        """The next candidate of every row, or its draft at the end of a stride: one evaluation of the network."""
        found = self.seek(rows, limit)
        key, draw_key, accept_key, value_key = jax.random.split(found.key, 4)
        x, t, kernel, position = rows.x, found.t, self.kernel, jnp.arange(rows.x.shape[1])
        writes = self.writes(found.index) & (found.index < limit)
        last = writes[:, None] & self.active(found.index) & ~kernel.certain(x)
        chosen = jnp.where(found.place[:, None] >= 0, position == found.place[:, None], last)
        start, stop = (self.at(values, found.index) for values in (self.plan.start, self.plan.stop))
        seen = Seen(jnp.minimum(self.lengths_B, stop), self.is_given_BxL | (position < start[:, None]))
        asked = chosen if self.proposer.can_choose else None
        proposal = self.proposer.propose(
            draw_key,
            self.method,
            x,
            t,
            jnp.where(writes, 0, t),
            seen,
            asked,
            at_once=1,
        )
        place = jnp.maximum(found.place, 0)
        old, draft = at_token(x, place), at_token(proposal.draft, place)
        rates = kernel.reverse(old, t).true(draft)
        rates = jnp.where(jnp.arange(rates.shape[-1]) == old[:, None], 0, rates)
        accepted = jax.random.uniform(accept_key, t.shape) * found.bound < jnp.sum(rates, -1) * (1 + ROUNDING)
        moves = (accepted & (found.place >= 0))[:, None] & (position == place[:, None])
        value = draw(value_key, jnp.log(rates))[0]
        recorded = len(rows.confidence)
        taken = (moves | last)[:recorded]
        return _Rows(
            key,
            jnp.where(moves, value[:, None], jnp.where(last, proposal.draft, x)),
            jnp.where(writes, found.index + 1, found.index),
            jnp.where(writes, self.at(self.plan.t, found.index + 1), t),
            jnp.where(taken, proposal.confidence[:recorded], rows.confidence).astype(rows.confidence.dtype),
            rows.evaluations + evaluations_of(asked),
        )

    def until(self, rows: _Rows, limit) -> _Rows:
        """All rows at the entry `limit`."""
        return jax.lax.while_loop(lambda rows: jnp.any(rows.index < limit), lambda rows: self.event(rows, limit), rows)


def walk(key, method: Method, proposer: Proposer, x_BxL, is_given_BxL, lengths_B, plan: Plan, recorded: int):
    """The whole reverse process.

    Args:
        key: a JAX random key.
        method: whose drafts are drawn.
        proposer: the network, and how it is read.
        x_BxL: tokens before the first entry of the plan.
        is_given_BxL, lengths_B, plan, recorded: as `Sampler.sample` has them.

    Returns:
        (text [B, L], (tokens, confidence, frozen) [N, R, L] each as `Trajectory` has them, evaluations of the network).
        Recorded rows wait for the others at the time of every entry, so that there are more evaluations.
    """
    plan = Plan(*(jnp.asarray(column) for column in plan))
    t, s = (jnp.minimum(times, T_NUMERIC_MAX).astype(jnp.result_type(float)) for times in (plan.t, plan.s))
    plan = plan._replace(t=t, s=s)
    count = len(plan.t)
    entries = jnp.arange(count)
    last = jax.lax.cummin(jnp.where(plan.s == 0, entries, count), reverse=True)
    goal = entries + 1 if recorded else last
    whole = _Walk(proposer, method, is_given_BxL, lengths_B, plan, goal, proposer.kernel.kinks())
    rows = _Rows(
        key,
        x_BxL.astype(jnp.int32),
        jnp.zeros(x_BxL.shape[:1], jnp.int32),
        jnp.broadcast_to(plan.t[0], x_BxL.shape[:1]),
        jnp.zeros((recorded, x_BxL.shape[1])),
        jnp.zeros((), jnp.int32),
    )
    if not recorded:
        rows = whole.until(rows, count)
        none = jnp.zeros((count, 0, x_BxL.shape[1]))
        return rows.x, (none.astype(jnp.int32), none, none.astype(bool)), rows.evaluations

    def entry(rows, index):
        rows = whole.until(rows._replace(confidence=jnp.zeros_like(rows.confidence)), index + 1)
        return rows, (rows.x[:recorded], rows.confidence, jnp.zeros(rows.confidence.shape, bool))

    rows, trajectory = jax.lax.scan(entry, rows, entries)
    return rows.x, trajectory, rows.evaluations


def _check_bound(kernel):
    """UserError where `dominating_rate` does not hold for some states of the kernel in some cells."""
    few = known_bound(kernel, jnp.zeros((1, 1), jnp.int32), jnp.full((1, 1), 0.5)) is None  # O(V) or more for each
    states = np.linspace(0, kernel.num_states - 1, FEW_STATES if few else TRIED_STATES).astype(np.int32)
    odds = np.linspace(-7, np.log(T_NUMERIC_MAX / (1 - T_NUMERIC_MAX)), FEW_STARTS if few else TRIED_STARTS)
    kinks = np.asarray(kernel.kinks())
    tried = kinks[np.linspace(0, len(kinks) - 1, TRIED_KINKS).astype(int)] if len(kinks) else kinks
    above = tried[:, None] * (1 + 2.0 ** -np.arange(2, 19, 2))
    starts = np.concatenate([1 / (1 + np.exp(-odds)), above[above < T_NUMERIC_MAX]])
    cells = jnp.asarray(starts, jnp.result_type(float)), jnp.asarray(states)
    wrong = np.asarray(_exceeded(kernel, *cells)).any(-1)
    if wrong.any():
        raise UserError(
            f"the sampler exact finds no limit to the rates of {type(kernel).__name__} near t = {starts[wrong][0]:.4g}: "
            "give another sampler, or name the times at which they jump in the kernel's `kinks`"
        )


@jax.jit
def _exceeded(kernel, t, states):
    """[C, S] bool: whether the rate of a state is ever above the dominating rate of a cell."""
    end, sliver = cell_end(t, kernel.kinks())
    xt = jnp.broadcast_to(states, (*t.shape, *states.shape))
    inside = t + jnp.linspace(0, 1, TRIED_POINTS)[:, None] * (end - t)
    below = rate_bound(kernel, xt, inside) <= dominating_rate(kernel, xt, t, end)
    return ~jnp.all(below & jnp.isfinite(rate_bound(kernel, xt, inside)), axis=0) & ~sliver[:, None]
