"""Processes so small that everything can be enumerated.

The oracles here are V x V matrices in numpy float64, written from the definitions of the process:

    q_t(j | i) = alpha 1[j = i] + beta nu(j) + sigma s(j | i),   s: neighbor r of i has weight clip(k - r, 0, 1) / k,

and what a short row cannot place goes to nu; or, for the dense kernel, s(j | i) a softmax of similarities. They share
nothing with the code under test. Times may be complex: every weight is analytic between the kinks, so a derivative in t
is an exact imaginary part. Only `Registered`, the oracle of a kernel that nobody wrote down twice, takes the
definition of q_t from the code and checks what the code derives from it.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from toy_vocabulary import AT_MASK, EMBEDDINGS, FLAT, P_DATA, SMOOTHED, K, V, pairs


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

    def survival(self, t, s):
        """[V]: the largest b that is at most every ratio of levels of noise at t and s."""
        raise NotImplementedError

    def kept_rate(self, t):
        """[V]: -db/dt at s = t."""
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
        """[V, V, V]: q(x_s | x_t, x0) indexed [x0, x_t, x_s], by Bayes' rule on the forward process given x0: a kept
        token stays kept with chance alpha_t / alpha_s, noise stays with chance b, and all else is drawn from what
        q_t still lacks. Zero for impossible x_t."""
        before, after, b = self.noise(s), self.noise(t), self.survival(t, s)[:, None]
        fresh = after - b * before
        assert fresh.min() > -1e-15, "the conditional process would need negative probabilities"
        fresh = np.maximum(fresh, 0) / np.maximum(fresh.sum(1, keepdims=True), 1e-300)
        left = self.alpha(s) - self.alpha(t)
        eye = np.eye(V)
        sources = left * eye + (1 - b) * before  # [x0, x_s]: who is redrawn
        joint = fresh[:, :, None] * sources[:, None, :]
        joint = joint + eye[None] * (b * before + self.alpha(t) * eye)[:, None, :]
        total = joint.sum(-1, keepdims=True)
        return np.where(total > 1e-300, joint / np.where(total > 1e-300, total, 1), 0)

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

    def _pieces(self, i, t):
        """All levels of row i, a jump once for every share that changes on its own, and what no jump has met."""
        near, jump = self.levels(i, t)
        alpha, _, sigma, _ = self.weights(t)
        return np.array([*near, *(jump * share for share in (self.shares(t) if self.shares else (1,))), alpha + sigma])

    def survival(self, t, s):
        return np.array([min(1, _ratios(self._pieces(i, t), self._pieces(i, s), np.inf).min()) for i in range(V)])

    def kept_rate(self, t):
        pieces = np.stack([[*self._pieces(i, t + 1e-30j), *[np.inf] * (K - len(self.rows[i]))] for i in range(V)])
        rates = -_ratios(pieces.imag / 1e-30, pieces.real, np.inf)
        return np.where(np.isfinite(pieces.real), rates, -np.inf).max(1)


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

    def survival(self, t, s):
        return np.minimum(_ratios(self.noise(t), self.noise(s), np.inf).min(1), self.alpha(t) / self.alpha(s))

    def kept_rate(self, t):
        rates = -_ratios(self.noise_derivative(t), self.noise(t), np.inf)
        return np.maximum(rates.max(1), -self.alpha_derivative(t) / self.alpha(t))


@dataclasses.dataclass(frozen=True)
class Registered(Process):
    """A kernel as its own code defines it, pair by pair; b from the code is only held to what makes it valid."""

    def _pairwise(self, function):
        with jax.enable_x64(True):
            kernel = self.build()
            return np.asarray(function(kernel, *pairs()))

    def alpha(self, t):
        return self._pairwise(lambda kernel, x0, xt: kernel.alpha(jnp.asarray(t)))

    def noise(self, t):
        return self._pairwise(lambda kernel, x0, xt: kernel.noise_prob(xt, x0, jnp.asarray(t)))

    def noise_derivative(self, t):
        return (self.noise(t + 1e-6) - self.noise(t - 1e-6)) / 2e-6

    def alpha_derivative(self, t):
        return (self.alpha(t + 1e-6) - self.alpha(t - 1e-6)) / 2e-6

    def survival(self, t, s):
        return self._pairwise(lambda kernel, x0, xt: kernel.noise_kept(x0[:, 0], jnp.asarray(t), jnp.asarray(s)))

    def kept_rate(self, t):
        return self._pairwise(lambda kernel, x0, xt: kernel.noise_kept_rate(jnp.asarray(t)))

    def prior(self, t):
        return self._pairwise(lambda kernel, x0, xt: kernel.prior_probs(jnp.asarray(t)))
