"""The reverse process in continuous time, from event to event: its law has no error of steps.

Position i of x_t leaves its value z for v at the rate

    sum_k p_theta(x0^i = k | x_t) R_t(z -> v | k),    R_t the rates of `kernel.reverse`.

This is simulated by thinning. Let B_t(z) be the largest rate at which z leaves, over all k
(`KernelBase.leaving_bound`). Candidates come at a rate that dominates the sum of B_t over the positions (`cells`). Each
belongs to one position, in proportion to what dominates B_t there, and is kept with the chance that B_t is of that:
those that are kept come at the rates B_t(x_t^i). For each of them the network is evaluated and x0 is drawn at its
position alone. The token changes with chance R_t(z | x0) / B_t(z), to v in proportion to R_t(z -> v | x0).

Rows run each at a time of its own, in one batch. Under masks B_t is what every mask has, so that no evaluation is lost:
L masks take L evaluations at most, and they fall as the first-hitting sampler has it. Where the clean token sets the
rate of its mask (`frequency_powers`) some candidates are rejected.

Source:
    Lewis and Shedler (1979), "Simulation of nonhomogeneous Poisson processes by thinning"; Chen and Ying (2024),
    "Convergence analysis of discrete diffusion model: exact implementation through uniformization"; for masks Zheng et
    al. (2025), "Masked diffusion models are secretly time-agnostic masked models".
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import at_token
from semdlm_jax.objectives.bound import T_NUMERIC_MAX
from semdlm_jax.samplers.categorical import draw
from semdlm_jax.samplers.cells import cell_end, check_rates, dominating_rate, rate_bound
from semdlm_jax.samplers.methods import Method
from semdlm_jax.samplers.proposing import Proposer, Seen, evaluations_of
from semdlm_jax.samplers.time_grid import Plan, steps_between

# The share by which rounding may bring a rate above its bound.
ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Exact(Method):
    """The reverse process in continuous time. Steps say only when a trajectory that is recorded is looked at."""

    continuous = True

    def check(self, kernel):
        check_rates(kernel)

    def between(self, kernel):
        def cells(times):
            if len(times) < 2:
                raise UserError(
                    "the sampler exact needs two steps for every stride, one of them for what noise is left at t_min: "
                    "give at least twice as many steps as strides"
                )
            return steps_between(times)

        return cells


class _Rows(NamedTuple):
    """Rows of text on their ways.

    Args:
        key: for all that is to come.
        x: [B, L] int32.
        index: [B], the entry of the plan that each is in; N behind the last.
        t: [B], its time.
        lag: [B], by how much it is earlier than t, which float32 cannot say: near t = 1 the events of a long row are
            closer to each other than the numbers.
        confidence: [R, L], of the last draft that was taken at each position of the recorded rows; 0 before the first.
        evaluations: of the network, so far.
    """

    key: jax.Array
    x: jax.Array
    index: jax.Array
    t: jax.Array
    lag: jax.Array
    confidence: jax.Array
    evaluations: jax.Array


class _Candidates(NamedTuple):
    """place: [B], the position of a candidate; -1 without one. bound: [B], B_t of its token."""

    key: jax.Array
    index: jax.Array
    t: jax.Array
    lag: jax.Array
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

    def left(self, x, index):
        """[B, L] bool: what noise is left where a row writes."""
        return self.writes(index)[:, None] & self.active(index) & ~self.kernel.certain(x)

    def seek(self, rows: _Rows, limit) -> _Candidates:
        """The next candidate of every row, where there is one before it writes or comes to the entry `limit`. A row
        that has nothing left to write goes on."""

        def looks(now):
            return (now.place < 0) & (now.index < limit) & ~jnp.any(self.left(rows.x, now.index), axis=-1)

        def look(now):
            key, gap_key, place_key, keep_key = jax.random.split(now.key, 4)
            goal = self.at(self.goal, now.index)
            until = self.plan.s[goal - 1]
            end, sliver = cell_end(now.t, self.kinks)
            end = jnp.maximum(end, until)
            rates = dominating_rate(self.kernel, rows.x, now.t, end)
            clean = self.writes(now.index)
            rates = jnp.where(self.active(now.index) & ~(sliver | clean)[:, None], rates, 0)
            gap = jax.random.exponential(gap_key, now.t.shape, now.t.dtype) / jnp.sum(rates, axis=-1)
            past = gap + now.lag
            inside = now.t - past > end
            t = jnp.where(inside, now.t - past, end)
            lag = jnp.where(inside, past - (now.t - t), 0)
            place = draw(place_key, jnp.log(rates))[0]
            bound = rate_bound(self.kernel, at_token(rows.x, place)[:, None], t[None])[0, :, 0].astype(t.dtype)
            kept = inside & (jax.random.uniform(keep_key, t.shape) * at_token(rates, place) < bound)
            arrives = clean | ~inside & (end <= until)
            index = jnp.where(clean, now.index + 1, jnp.where(arrives, goal, now.index))
            t = jnp.where(arrives, self.at(self.plan.t, index), t)
            new = _Candidates(key, index, t, lag, jnp.where(kept, place, -1), bound)
            searching = looks(now)
            return _Candidates(key, *(jnp.where(searching, a, b) for a, b in zip(new[1:], now[1:], strict=True)))

        none = jnp.full(rows.index.shape, -1)
        first = _Candidates(rows.key, rows.index, rows.t, rows.lag, none, jnp.zeros(none.shape, rows.t.dtype))
        return jax.lax.while_loop(lambda now: jnp.any(looks(now)), look, first)

    def event(self, rows: _Rows, limit) -> _Rows:
        """The next candidate of every row, or its draft at the end of a stride: one evaluation of the network."""
        found = self.seek(rows, limit)
        key, draw_key, accept_key, value_key = jax.random.split(found.key, 4)
        x, t, kernel, position = rows.x, found.t, self.kernel, jnp.arange(rows.x.shape[1])
        writes = self.writes(found.index) & (found.index < limit)
        last = writes[:, None] & self.left(x, found.index)
        chosen = jnp.where(found.place[:, None] >= 0, position == found.place[:, None], last)
        start, stop = (self.at(values, found.index) for values in (self.plan.start, self.plan.stop))
        seen = Seen(jnp.minimum(self.lengths_B, stop), self.is_given_BxL | (position < start[:, None]))
        proposal = self.proposer.propose(
            draw_key,
            self.method,
            x,
            t,
            jnp.where(writes, 0, t),
            seen,
            chosen,
            at_once=1,
        )
        place = jnp.maximum(found.place, 0)
        old, draft = at_token(x, place), at_token(proposal.draft, place)
        rates = kernel.reverse(old, t).true(draft)
        rates = jnp.where(jnp.arange(rates.shape[-1]) == old[:, None], 0, jnp.maximum(rates, 0))
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
            found.lag,
            jnp.where(taken, proposal.confidence[:recorded], rows.confidence).astype(rows.confidence.dtype),
            rows.evaluations + evaluations_of(chosen),
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
    t, s = (jnp.minimum(times, T_NUMERIC_MAX).astype(jnp.result_type(float)) for times in plan[:2])
    plan = jax.tree.map(jnp.asarray, plan._replace(t=t, s=s))
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
        jnp.zeros(x_BxL.shape[:1], plan.t.dtype),
        jnp.zeros((recorded, x_BxL.shape[1])),
        jnp.zeros((), jnp.int32),
    )
    if not recorded:
        rows = whole.until(rows, count)
        none = jnp.zeros((count, 0, x_BxL.shape[1]))
        return rows.x, (none.astype(jnp.int32), none, none.astype(bool)), rows.evaluations

    def entry(rows, index):
        rows = whole.until(rows, index + 1)
        return rows, (rows.x[:recorded], rows.confidence, jnp.zeros(rows.confidence.shape, bool))

    rows, trajectory = jax.lax.scan(entry, rows, entries)
    return rows.x, trajectory, rows.evaluations
