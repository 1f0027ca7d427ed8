"""Processes so small that everything can be enumerated.

The oracles here are V x V matrices in numpy float64, written from the definitions of the process:

    q_t(j | i) = alpha 1[j = i] + beta nu(j) + sigma s(j | i),   s: neighbor r of i has weight clip(k - r, 0, 1) / k,

and what a short row cannot place goes to nu; or, for the dense kernel, s(j | i) a softmax of similarities. They share
nothing with the code under test. Times may be complex: every weight is analytic between the kinks, so a derivative in t
is an exact imaginary part.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from toy_vocabulary import AT_MASK, EMBEDDINGS, FLAT, P_DATA, SMOOTHED, V


def _ratios(numerator, denominator, empty):
    """Elementwise; `empty` where the denominator has no mass."""
    positive = np.real(denominator) > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1), empty)


@dataclasses.dataclass(frozen=True)
class Process:
    """A kernel in the code (`build()`) beside its definition. Subclasses say what noise is."""

    name: str
    build: Callable
    rtol: float = dataclasses.field(default=1e-12, kw_only=True)
    exact: bool = dataclasses.field(default=False, kw_only=True)  # its conditional process is Markov in x_t alone
    kinks: tuple = dataclasses.field(default=(), kw_only=True)  # times at which it is not analytic
    mask_id: int | None = dataclasses.field(default=None, kw_only=True)

    def alpha(self, t):
        """The chance that a token is kept."""
        raise NotImplementedError

    def noise(self, t):
        """[V, V]: what noise adds to q_t(j | i), row i, column j."""
        raise NotImplementedError

    def changed(self, t, s=None):
        """[V, V, V] by (x0, x_t, y): the chance, given x0, that the token changed between s and t, from y to x_t;
        without s per unit of t, at t."""
        raise NotImplementedError

    def prior(self, t):
        """[V]: what noise of time t is scored against, and at t = 1 what sampling starts from."""
        raise NotImplementedError

    def matrix(self, t):
        """[V, V]: q_t(j | i) in row i, column j."""
        return self.alpha(t) * np.eye(V) + self.noise(t)

    def noise_derivative(self, t):
        """[V, V], exact away from kinks."""
        return self.noise(t + 1e-30j).imag / 1e-30

    def alpha_derivative(self, t):
        return np.imag(self.alpha(t + 1e-30j)) / 1e-30

    @property
    def forgets(self):
        """Whether noise at t = 1 is the prior, whatever the text was."""
        return np.abs(self.matrix(1.0) - self.prior(1.0)).max() < 1e-12

    @property
    def starts_clean(self):
        return np.abs(self.matrix(0.0) - np.eye(V)).max() < 1e-15

    def reverse(self, t, s):
        """[V, V, V]: q(x_s | x_t, x0) indexed [x0, x_t, x_s], by Bayes' rule on the forward process given x0: who did
        not change stayed. Zero for impossible x_t."""
        joint, at_t = self.changed(t, s), self.matrix(t)
        stayed = at_t - joint.sum(-1)
        assert min(joint.min(), stayed.min()) > -1e-15, "the conditional process would need negative probabilities"
        joint = np.maximum(joint + np.maximum(stayed, 0)[..., None] * np.eye(V), 0)
        total = joint.sum(-1, keepdims=True)
        return np.where(total > 1e-300, joint / np.where(total > 1e-300, total, 1), 0)

    def leap(self, t, s):
        """[V, V, V]: tau-leaping, indexed [x0, x_t, x_s]: with chance 1 - exp(-R (t - s)), R the rate of all changes of
        x_t to other tokens given x0, one of these in proportion to its rate. Rates are those at 1 - 2^-17 where t is
        later."""
        t = min(t, 1 - 2.0**-17)
        eye, q = np.eye(V), self.matrix(t)[..., None]
        rates = np.where(eye > 0, 0, np.maximum(self.changed(t), 0) * np.where(q > 0, 1 / np.where(q > 0, q, 1), 0))
        total = rates.sum(-1, keepdims=True)
        chance = -np.expm1(-total * (t - s))
        return chance * np.where(total > 0, rates / np.where(total > 0, total, 1), eye) + (1 - chance) * eye

    def bayes(self, t, p=P_DATA):
        """[V, V]: the exact posterior p(x0 | x_t), row x_t; rows of unreachable x_t are zero."""
        joint = (p[:, None] * self.matrix(t)).T
        total = joint.sum(1, keepdims=True)
        return np.where(total > 0, joint / np.where(total > 0, total, 1), 0)


@dataclasses.dataclass(frozen=True)
class Toy(Process):
    """weights(t) -> (alpha, beta, sigma, k - 1), rows, nu; spread(t) -> (share of nu, share of the mask) of a jump."""

    weights: Callable
    rows: tuple
    nu: np.ndarray
    shares: Callable | None = None
    from_text: bool = False

    def alpha(self, t):
        return self.weights(t)[0]

    def prior(self, t):
        """What sampling starts from: what the text of the unigram becomes, for those who start there; else a jump."""
        if self.from_text:
            return SMOOTHED @ self.matrix(1.0)
        return self.jump(t)

    def jump(self, t):
        """[V]: what a jump gives."""
        if self.shares is None:
            return self.nu
        spread, masked = self.shares(t)
        return spread * self.nu + masked * AT_MASK

    def levels(self, i, t):
        """What noise consists of in row i: (its neighbors' weights, the weight of a jump)."""
        _, beta, sigma, growth = self.weights(t)
        k, row = 1 + growth, self.rows[i]
        near = []
        for r in range(len(row)):
            above = growth - (r - 1)
            near.append(sigma * (1.0 if np.real(above) >= 1 else 0.0 if np.real(above) <= 0 else above) / k)
        missing = growth - (len(row) - 1)
        return near, beta + sigma * (missing / k if np.real(missing) > 0 else 0)

    def noise(self, t):
        q = np.zeros((V, V), np.result_type(t, np.float64))
        for i, row in enumerate(self.rows):
            near, jump = self.levels(i, t)
            q[i] += jump * self.jump(t)
            for j, mass in zip(row, near, strict=True):
                q[i, j] += mass
        return q

    def _states(self, t):
        """What q_t consists of: alpha; the neighbors, [V, V]; jumps, [V, V] for every share that changes on its own."""
        near, jumps = np.zeros((2, V, V), np.result_type(t, np.float64))
        for i, row in enumerate(self.rows):
            weights, jumps[i] = self.levels(i, t)
            near[i, list(row)] = weights
        shares = [(1, self.nu)] if self.shares is None else zip(self.shares(t), (self.nu, AT_MASK), strict=True)
        return [np.asarray(self.alpha(t)), near, *(jumps * share * prior for share, prior in shares)]

    def changed(self, t, s=None):
        """A jump takes every token with the same chance. A kept token drifts, a near one may drift on."""
        if s is None:
            states, (alpha, beta, sigma, _) = self._states(t + 1e-30j), self.weights(t + 1e-30j)
            now, change = [x.real for x in states], [x.imag / 1e-30 for x in states]
            hazard = _ratio(np.imag(beta) / 1e-30, np.real(alpha + sigma))
        else:
            now, after, (alpha, beta, sigma, _) = self._states(s), self._states(t), self.weights(s)
            change = [x - y for x, y in zip(after, now, strict=True)]
            hazard = _ratio(self.weights(t)[1] - beta, alpha + sigma)
        return np.stack([_moves(i, hazard, _row(now, i), _row(change, i)) for i in range(V)])


def _row(states, i):
    return [x[i] if x.ndim else x for x in states]


def _moves(i, hazard, now, change):
    """[V, V] by (where to, where from): the masses that change, given the clean token i. hazard: the chance to jump.
    now, change: of alpha, the near tokens, and the far ones, by their components."""
    (_, near, *far), (kept_gain, near_gain, *far_gain) = now, change
    total, gain = (sum(part.sum() for part in parts) for parts in (far, far_gain))
    # The share of the far tokens that is drawn anew: that which jumps, or more where a component shrinks.
    lost = max(0, hazard, *(_ratio(-dot.sum(), part.sum()) for part, dot in zip(far, far_gain, strict=True)))
    # At t = 1 no token is near, but those that go at that moment lie where they lay just before.
    before = near if near.sum() > 0 else np.maximum(-near_gain, 0)
    leaving = max(0, *map(_ratio, -near_gain, near))
    most = max(max(hazard, leaving) * near.sum(), max(gain, 0) + kept_gain)
    near_jumping = min(max(gain, 0), most) if before.sum() > 0 else 0
    jumping = max(gain, 0) - near_jumping  # of the kept tokens
    near_lost = max(leaving, _ratio(near_jumping, near.sum()))
    eye, all_far = np.eye(V)[i], sum(far)
    from_near, from_far = before * _ratio(1, before.sum()), all_far * _ratio(1, total)
    to_far = jumping * eye + near_jumping * from_near + (lost * total - max(-gain, 0)) * from_far
    to_near = (-kept_gain - jumping) * eye + max(-gain, 0) * from_far
    to_near = to_near + (near_lost * near.sum() - near_jumping) * from_near
    came_far, came_near = sum(far_gain) + lost * all_far, near_gain + near_lost * near
    return sum(
        np.outer(came, origin) * _ratio(1, came.sum()) for came, origin in ((came_far, to_far), (came_near, to_near))
    )


def _ratio(x, y):
    return x / y if y > 1e-300 else 0


@dataclasses.dataclass(frozen=True)
class Softmax(Process):
    """Noise is a softmax of similarities at the temperature tau_min + tau_scale (1 - alpha) / alpha."""

    clock: Callable
    tau_min: float = 0.05
    tau_scale: float = 0.1

    def alpha(self, t):
        return 1 - self.clock(t)

    def prior(self, t):
        return FLAT

    def noise(self, t):
        alpha = 1 - self.clock(t)
        sharpness = alpha / (self.tau_min * alpha + self.tau_scale * (1 - alpha))
        weight = np.exp(sharpness * (EMBEDDINGS @ EMBEDDINGS.T - 1))
        return (1 - alpha) * weight / weight.sum(1, keepdims=True)

    def changed(self, t, s=None):
        """Noise stays with the largest chance that all tokens allow, but not longer than kept tokens; what does not is
        drawn anew."""
        if s is None:
            now, gain, left = self.noise(t), self.noise_derivative(t), -self.alpha_derivative(t)
            lost = np.maximum((-gain / now).max(1), left / self.alpha(t) if self.alpha(t) > 0 else 0)[:, None]
        else:
            now, left = self.noise(s), self.alpha(s) - self.alpha(t)
            gain = self.noise(t) - now
            lost = np.maximum(_ratios(-gain, now, 0).max(1), left / self.alpha(s))[:, None]
        came, sources = gain + lost * now, left * np.eye(V) + lost * now
        return came[:, :, None] * (sources / sources.sum(1, keepdims=True))[:, None, :]
