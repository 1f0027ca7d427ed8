"""The split coupling: what has jumped never comes back near. The reverse process of the sparse kernels.

Given x0, a token is in one of three states: *kept* with chance alpha_t, *near* (a neighbor of x0) or *far* (a draw from
the global branch, with what a short row cannot place). Write near_t(z) and far_t(z) for the last two branches of
q_t(z | x0). Between s and t

    jumps    reach every state alike, whatever x0 is: a token has not jumped with chance (1 - beta_t) / (1 - beta_s).
             Far noise stays with that chance, or less where a part of far_t(z) shrinks by more; what jumps is drawn
             anew from what far_t(z) lacks. Near noise jumps more often where some of it must go, because near_t(z)
             shrinks: kept tokens then jump less. What a short row cannot place comes from kept tokens first
    drift    takes kept tokens, and near ones to other neighbors: near noise stays with the largest chance for which no
             neighbor keeps more than near_t(z)
    nothing  leads from far to near (unless far noise itself becomes less), and nothing back to kept.

Other choices of who jumps have the same marginals. This one is the tighter on tables of real text (benchmarks/results/
bakeoff.md); where a neighborhood is a third of the vocabulary, as on toys, fewer jumps of near noise can be.

A renewal (`renewal`) has one state for all noise: a token that returns from far may then have been near, which tells of
x0. Here it may not, and the bound is tighter. Without a semantic branch both are the same.

All masses below are tables over n, the number of neighbors in the row of x0: [..., K + 1]. A step from s to t and the
rates at t are one formula, linear in how the branches *change*: by their differences, or by their derivatives in t.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import add_at, derivative, put, ratio, take
from semdlm_jax.kernels.reverse import NoisePart, Origins

if TYPE_CHECKING:
    from semdlm_jax.kernels.sparse import Kernel

Array = jax.Array

# The most numbers that `at_counts` compares with.
FUSED = 65
# At t = 1 nothing may be near any more: what goes at that moment was where it was just before.
LAST_NEAR = 1 - 2**-24


class Levels(NamedTuple):
    """Every value that the branches have at times [...], or how it changes.

    Attributes:
        alpha: [..., 1], of the kept token.
        near: [..., K], of a neighbor, by its rank.
        far: for each component of the global branch (nu; the mask, where its share changes) its factor, [..., K + 1] by
            the number of neighbors.
    """

    alpha: Array
    near: Array
    far: tuple[Array, ...]


class Flows(NamedTuple):
    """The mass that changes, [..., K + 1] each by the number of neighbors: between s and t, or per unit of t.

    Attributes:
        far_lost, near_lost: the share of far and near noise that does not stay as it is.
        kept_to_far, near_to_far, far_to_far: who jumps.
        kept_to_near, far_to_near, near_to_near: who drifts.
    """

    far_lost: Array
    near_lost: Array
    kept_to_far: Array
    near_to_far: Array
    far_to_far: Array
    kept_to_near: Array
    far_to_near: Array
    near_to_near: Array


def flows(now: Levels, change: Levels) -> Flows:
    """The Flows of branches that have the values `now`, before the change."""
    far, far_gain = (sum(parts[1:], start=parts[0]) for parts in (now.far, change.far))
    near, near_gain = _sums(now.near), _sums(change.near)
    kept_lost = -change.alpha
    # The row of K neighbors places all of its drift: its far branch is beta, and 1 - beta is what has not jumped. Of
    # the two forms of the change the one that has not lost its digits: beta grows from 0, the others vanish at t = 1.
    jumped = jnp.where(far[..., -1:] < 0.5, far_gain[..., -1:], kept_lost - near_gain[..., -1:])
    hazard = jnp.maximum(ratio(jumped, now.alpha + near[..., -1:], 0), 0)
    far_lost = jnp.broadcast_to(hazard, far.shape)
    for part, dot in zip(now.far, change.far, strict=True):
        far_lost = jnp.maximum(far_lost, ratio(-dot, part, 0))
    gain, loss = jnp.maximum(far_gain, 0), jnp.maximum(-far_gain, 0)
    # At t = 1 near noise has gone, but what goes at that moment still jumps. An empty row has no near noise at all.
    from_near = (near > 0) | (near_gain < 0)
    leaving = _largest(ratio(-change.near, now.near, 0))
    kept_to_far = jnp.where(from_near, jnp.clip(gain - jnp.maximum(hazard, leaving) * near, 0, kept_lost), gain)
    near_to_far = gain - kept_to_far
    near_lost = jnp.maximum(ratio(near_to_far, near, 0), leaving)
    return Flows(
        far_lost,
        near_lost,
        kept_to_far,
        near_to_far,
        jnp.maximum(far_lost * far - loss, 0),
        jnp.maximum(kept_lost - kept_to_far, 0),
        loss,
        jnp.maximum(near_lost * near - near_to_far, 0),
    )


def _sums(near):
    """[..., K + 1]: the sum over the first n ranks, for n from 0 to K."""
    return _from_none(jnp.cumsum(near, axis=-1))


def _largest(lost):
    """[..., K + 1]: the largest of the first n, at least 0."""
    return jnp.maximum(_from_none(jax.lax.cummax(lost, axis=lost.ndim - 1)), 0)


def _from_none(values):
    """values [..., K] behind a 0 for no ranks."""
    return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 0)])


def levels(kernel: "Kernel", t: Array) -> Levels:
    """The Levels of a kernel at times t [...]."""
    w, k_max = kernel.branches.weights(t), kernel.table.k_max
    far = w.beta[..., None] + kernel.overflow_weight(jnp.arange(k_max + 1), t[..., None])
    shares = [w.prior_share, w.mask_share] if w.prior_share is not None and w.mask_share is not None else []
    parts = tuple(far * share[..., None] for share in shares) or (far,)
    return Levels(w.alpha[..., None], kernel.near(jnp.arange(k_max), t[..., None]), parts)


def origins(kernel: "Kernel", xt: Array, x0: Array, t: Array, s: Array | None = None) -> Origins:
    """The Origins of xt given x0, arrays of xt's shape."""
    counts = kernel.table.counts[x0]

    def look(table):
        return take(table, counts[..., None])[..., 0]

    now, change = with_change(lambda t: levels(kernel, t), t, s)
    return _origins(kernel, _Pairs(xt, xt == x0, kernel.rank(xt, x0), lambda near: near, look), now, change, t, s)


def all_origins(kernel: "Kernel", xt: Array, t: Array, s: Array | None = None) -> Origins:
    """The Origins of xt given every clean token: [..., V] each."""
    xt, (ids, ranks) = xt[..., None], kernel.in_neighbors(xt)

    def spread(near):
        return put(jnp.zeros(kernel.vocab_size, near.dtype), ids, near)

    def look(table):
        return at_counts(table, kernel.table.counts)

    pairs = _Pairs(xt, xt == jnp.arange(kernel.vocab_size), ranks, spread, look)
    now, change = with_change(lambda t: levels(kernel, t), t, s)
    return _origins(kernel, pairs, now, change, t[..., None], s if s is None else s[..., None])


def at_counts(table: Array, counts: Array) -> Array:
    """table [..., K + 1] at the numbers of neighbors counts [V]: [..., V].

    For small K by comparing with each number, which fuses with what reads the result, where a gather does not.
    """
    if table.shape[-1] > FUSED:
        return table[..., counts]
    found = table[..., :1]
    for number in range(1, table.shape[-1]):
        found = jnp.where(counts == number, table[..., number, None], found)
    return jnp.broadcast_to(found, (*table.shape[:-1], *counts.shape))


def with_change(function, t, s):
    """(what is there before, its change): at s and until t, or at t and per unit of t."""
    if s is None:
        return derivative(function, t)
    before = function(s)
    return before, jax.tree.map(jnp.subtract, function(t), before)


class _Pairs(NamedTuple):
    """Pairs of a noisy and a clean token.

    Attributes:
        xt: the noisy token.
        same: whether both are the same token.
        rank: of the noisy token in the row of the clean one: of all pairs, or a list of those that are near.
        spread: what is known by `rank`, as an array of all pairs, 0 where no rank is.
        look: reads a table over numbers of neighbors at that of the clean token.
    """

    xt: Array
    same: Array
    rank: Array
    spread: Callable[[Array], Array]
    look: Callable[[Array], Array]


def _origins(kernel, pairs, now, change, t, s):
    """t, s: times that broadcast against the pairs."""
    hits = [kernel.global_prior.probs[pairs.xt], pairs.xt == kernel.mask_id][: len(now.far)]

    def far(parts):
        return sum(pairs.look(part) * hit for part, hit in zip(parts, hits, strict=True))

    f = flows(now, change)
    near, near_change = map(pairs.spread, with_change(lambda t: kernel.near(pairs.rank, t), t, s))
    kept = jnp.where(pairs.same, kernel.alpha(t), 0)
    before, gained = near + far(now.far), near_change + far(change.far)
    prob = kept + before if s is None else kept + before + gained  # q_t(x_t | x0)
    came_far = far([dot + f.far_lost * part for part, dot in zip(now.far, change.far, strict=True)])
    came_near = near_change + pairs.look(f.near_lost) * near
    jumped, drifted = (ratio(jnp.maximum(came, 0), prob, 0) for came in (came_far, came_near))

    def source(of_jumps, of_drifts):
        return jumped * pairs.look(of_jumps) + drifted * pairs.look(of_drifts)

    jumps = _shares(f.kept_to_far, f.near_to_far, f.far_to_far)
    drifts = _shares(f.kept_to_near, f.near_to_near, f.far_to_near)
    stay = None
    if s is not None:
        stayed = before - far([f.far_lost * part for part in now.far]) - pairs.look(f.near_lost) * near
        stay = jnp.clip(ratio(kept + stayed, prob, 0), 0, 1)
    from_kept, *from_noise = map(source, jumps, drifts)
    return Origins(stay, from_kept, tuple(from_noise))


def _shares(*masses):
    total = sum(masses[1:], start=masses[0])
    return [ratio(mass, total, 0) for mass in masses]


@dataclasses.dataclass(frozen=True)
class Near(NoisePart):
    """The semantic branch at time t as a `reverse.NoisePart`: a neighbor of x0. Nothing for an empty row."""

    kernel: "Kernel"
    t: Array

    def prob_at(self, x0, y):
        near = self.kernel.near(self.kernel.rank(y, x0[..., None]), self.t[..., None])
        return ratio(near, self._total(x0)[..., None], 0)

    def probs(self, x0):
        ids = self.kernel.table.ids[x0]
        near = self.kernel.near(jnp.arange(self.kernel.table.k_max), self.t[..., None])
        near = jnp.where(ids < self.kernel.table.missing, ratio(near, self._total(x0)[..., None], 0), 0)
        return add_at(jnp.zeros(self.kernel.vocab_size, near.dtype), ids, near)

    def likelihoods(self, xt):
        ids, ranks = self.kernel.in_neighbors(xt)
        near = self.kernel.near(ranks, self.t[..., None])
        return ratio(add_at(jnp.zeros(self.kernel.vocab_size, near.dtype), ids, near), self._totals(), 0)

    def matvec(self, w):
        return self.kernel.near_matvec(ratio(w, self._totals(), 0), self.t)

    def matvec_at(self, w, y):
        return self.kernel.near_matvec_at(ratio(w, self._totals(), 0), y, self.t)

    def sample(self, key, x0):
        return self.kernel.sample_near(jax.random.split(key, 3)[1], x0, self.t)

    def _total(self, x0):
        return self.kernel.near_weight(self.kernel.table.counts[x0], self.t)

    def _totals(self):
        return self.kernel.near_weight(self.kernel.table.counts, self.t[..., None])


@dataclasses.dataclass(frozen=True)
class Far(NoisePart):
    """The global branch at time t as a `reverse.NoisePart`: nu_t, whatever x0 is."""

    kernel: "Kernel"
    t: Array

    def prob_at(self, x0, y):
        return self.kernel.global_prob(y, self.t[..., None])

    def probs(self, x0):
        return self.kernel.global_probs(self.t)

    def likelihoods(self, xt):
        return self.kernel.global_prob(xt, self.t)[..., None]

    def matvec(self, w):
        return jnp.sum(w, axis=-1, keepdims=True) * self.kernel.global_probs(self.t)

    def matvec_at(self, w, y):
        return jnp.sum(w, axis=-1, keepdims=True) * self.kernel.global_prob(y, self.t[..., None])

    def sample(self, key, x0):
        return self.kernel.sample_global(jax.random.split(key, 3)[2], x0.shape, self.t)

    def other_prob(self, x0, xt):
        return self.kernel.other_global_prob(xt, self.t)

    def sample_other(self, key, x0, xt, wanted):
        return self.kernel.sample_other_global(jax.random.split(key, 3)[2], xt, self.t, wanted)
