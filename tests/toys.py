"""Vocabularies so small that everything can be enumerated.

The oracles here are V x V matrices in numpy float64, written from the definitions of the process:

    q_t(j | i) = alpha 1[j = i] + beta nu(j) + sigma s(j | i),   s: neighbour r of i has weight clip(k - r, 0, 1) / k,

and what a short row cannot place goes to nu; or, for the dense kernel, s(j | i) a softmax of similarities. They share
nothing with the code under test. Times may be complex: every weight is analytic between the kinks, so a derivative in t
is an exact imaginary part. Only `Registered`, the oracle of a kernel that nobody wrote down twice, takes the
definition of q_t from the code and checks what the code derives from it.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from semdlm_jax.kernels import (
    KERNELS,
    GlobalPrior,
    Kernel,
    NeighbourTable,
    Vocabulary,
    branches,
    make_kernel,
    schedules,
)

V, K, MASK = 12, 4, 2

# Full, short and empty rows; 0, 1, MASK, 10 and 11 are nobody's neighbour, 9 is one without having any.
ROWS = ((), (), (), (4, 5, 6, 7), (3, 5), (4,), (3, 4, 5, 8), (8, 3, 4, 9), (9, 7, 3), (), (9, 8, 7, 3), (3, 4, 5, 6))
ALONE = ((),) * V

FLAT = np.full(V, 1 / V)
AT_MASK = np.eye(V)[MASK]
SKEWED = np.arange(1.0, V + 1) ** 2 / np.sum(np.arange(1.0, V + 1) ** 2)
# The unigram of the toys with half a count more for each.
SMOOTHED = np.arange(1.0, V + 1) ** 2 + 0.5
SMOOTHED = SMOOTHED / SMOOTHED.sum()
# Some tokens are never jumped to: only keeping them, or a neighbour, produces them.
GAPPED = np.where(np.arange(V) % 4 == 0, 0, SKEWED) / np.where(np.arange(V) % 4 == 0, 0, SKEWED).sum()

# What the texts of the toys are made of; the mask is no text.
P_DATA = np.where(np.arange(V) == MASK, 0, np.random.default_rng(3).dirichlet(np.full(V, 0.7)) + 0.01)
P_DATA = P_DATA / P_DATA.sum()
LOG_P_DATA = np.log(np.where(P_DATA > 0, P_DATA, 1e-300))
ENTROPY = -np.sum(P_DATA * LOG_P_DATA)

# Directions on a sphere; two tokens have no meaning.
EMBEDDINGS = np.random.default_rng(11).standard_normal((V, 3))
EMBEDDINGS = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True) * (np.arange(V) > 1)[:, None]


def lists(rows, k=K):
    """(ids, similarities) as `NeighbourTable.from_lists` takes them."""
    ids = np.array([list(row) + [-1] * (k - len(row)) for row in rows], np.int32).reshape(len(rows), k)
    return ids, np.where(ids >= 0, 0.9 - 0.1 * np.arange(k), 0.0)


def table(rows=ROWS):
    return NeighbourTable.from_lists(*lists(rows))


def vocabulary(**changes):
    """Everything a kernel may ask for; the counts make the unigram prior SKEWED."""
    known = {"table": table(), "unigram": np.arange(1, V + 1) ** 2, "embeddings": EMBEDDINGS}
    return Vocabulary(V, MASK, **{**known, **changes})


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
        """What noise consists of in row i: (its neighbours' weights, the weight of a jump)."""
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


def _clock(name):
    """The noise 1 - alpha(t) of the schedules, where subtracting alpha from 1 would lose it."""
    return {
        "linear": lambda t: t,
        "loglinear": lambda t: (1 - 1e-3) * t,
        "cosine": lambda t: (1 - 1e-3) * 2 * np.sin(math.pi * t / 4) ** 2,
        "geometric": lambda t: -np.expm1(-(1e-4 ** (1 - t)) * 20.0**t),
        "polynomial": lambda t: t * t,
    }[name]


def _global(clock=_clock("linear")):
    return lambda t: (1 - clock(t), clock(t), 0 * t, 0 * t)


def _semantic(gamma, clock=_clock("linear")):
    def weights(t):
        n = clock(t)
        return 1 - n, n**2, n - n**2, (K - 1) * n**gamma

    return weights


def _drifting(gamma, clock=_clock("linear")):
    def weights(t):
        n = clock(t)
        return 1 - n, 0 * n, n, (K - 1) * n**gamma

    return weights


def _practical(gamma, alpha_min, alpha_power, beta_max, beta_power):
    def weights(t):
        alpha = alpha_min + (1 - alpha_min) * (1 - t) ** alpha_power
        beta = beta_max * t**beta_power
        return alpha, beta, 1 - alpha - beta, (K - 1) * t**gamma

    return weights


def _gidd(share, clock=_clock("linear")):
    """GIDD with gamma = 1: alpha = (1 - n) / C, jumps (n mask + c u) / C."""
    height = 2 * share / (1 - share)

    def weights(t):
        n = clock(t)
        c = height * np.sqrt(n * (1 - n))
        return (1 - n) / (1 + c), (n + c) / (1 + c), 0 * n, 0 * n

    def shares(t):
        n = clock(t)
        c = height * np.sqrt(n * (1 - n))
        return (c / (n + c), n / (n + c)) if n + c != 0 else (0 * n, 0 * n)

    return weights, shares


def kinks(gamma):
    """Times at which k_t is whole."""
    return tuple((m / (K - 1)) ** (1 / gamma) for m in range(1, K))


def named(name, **options):
    return lambda: make_kernel(name, vocabulary(), **options)


def _direct(name, weights, mixture, rows, nu, **more):
    build = lambda: Kernel(table(rows), GlobalPrior.from_probs(nu), mixture, mask_id=more.get("mask_id"))  # noqa: E731
    return Toy(name, build, weights, rows, nu, **more)


def _plus(name, gamma, **options):
    build = named("semdlm_plus", gamma=gamma, **options)
    return Toy(name, build, _semantic(gamma), ROWS, FLAT, kinks=kinks(gamma))


def _practical_toy(name, **options):
    build = named("semdlm_plus_practical", **options)
    return Toy(name, build, _practical(**options), ROWS, FLAT, kinks=kinks(options["gamma"]))


def _hybrid_toy(name, share, schedule="linear"):
    weights, shares = _gidd(share, _clock(schedule))
    build = named("hybrid", uniform_share=share, schedule=schedules.SCHEDULES[schedule]())
    nu = (1 - AT_MASK) / (V - 1)
    return Toy(name, build, weights, ALONE, nu, shares, exact=True, mask_id=MASK)


_POLYNOMIAL = schedules.Polynomial(2.0)
_SEMANTIC_MASK = named("semantic_mask")
TOYS = {
    toy.name: toy
    for toy in (
        Toy("absorbing", named("absorbing"), _global(), ALONE, AT_MASK, exact=True, mask_id=MASK),
        Toy("uniform", named("uniform"), _global(), ALONE, FLAT, exact=True),
        Toy("unigram", named("unigram"), _global(), ALONE, SKEWED, exact=True),
        _hybrid_toy("hybrid", 0.2),
        _plus("slow_growth", 0.5),
        _plus("semdlm_plus", 1.0),
        _plus("late_growth", 4.0),
        _practical_toy(
            "semdlm_plus_practical", gamma=1.0, alpha_min=0.0, alpha_power=1.5, beta_max=1.0, beta_power=3.0
        ),
        _practical_toy("practical_unfinished", gamma=2.0, alpha_min=0.1, alpha_power=1.0, beta_max=0.7, beta_power=2.5),
        Toy("semantic_knn", named("semantic_knn"), _drifting(1.0), ROWS, FLAT, from_text=True, kinks=kinks(1.0)),
        Toy("late_knn", named("semantic_knn", gamma=2.5), _drifting(2.5), ROWS, FLAT, from_text=True, kinks=kinks(2.5)),
        Softmax("semantic_softmax", named("semantic_softmax"), _clock("linear"), rtol=2e-6),
        _direct("gapped", _semantic(4.0), branches.SemanticThenGlobal(K, 4.0), ROWS, GAPPED, kinks=kinks(4.0)),
        Toy("semantic_mask", _SEMANTIC_MASK, _semantic(1.0), ROWS, AT_MASK, mask_id=MASK, kinks=kinks(1.0)),
        # Every schedule, each on a kernel of another kind.
        Toy(
            "absorbing_cosine",
            named("absorbing", schedule=schedules.Cosine()),
            _global(_clock("cosine")),
            ALONE,
            AT_MASK,
            exact=True,
            mask_id=MASK,
        ),
        Toy(
            "uniform_geometric",
            named("uniform", schedule=schedules.Geometric()),
            _global(_clock("geometric")),
            ALONE,
            FLAT,
            exact=True,
        ),
        _hybrid_toy("hybrid_loglinear", 0.1, "loglinear"),
        Toy(
            "plus_polynomial",
            named("semdlm_plus", schedule=_POLYNOMIAL),
            _semantic(1.0, _clock("polynomial")),
            ROWS,
            FLAT,
            kinks=tuple(math.sqrt(kink) for kink in kinks(1.0)),
        ),
    )
}

# Those whose noise at t = 1 still tells of the text.
REMEMBERING = (
    "practical_unfinished",
    "semantic_knn",
    "late_knn",
    "absorbing_cosine",
    "uniform_geometric",
    "hybrid_loglinear",
)


def readme_kernel():
    """The code of the README's "Your own kernel"."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    return text.split("## Your own kernel")[1].split("```python")[1].split("```")[0]


def _registered_by(code):
    """Runs it; returns the names of the kernels that it registered."""
    before = set(KERNELS)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    return sorted(set(KERNELS) - before)


for _name in _registered_by(readme_kernel()):
    TOYS[_name] = Registered(_name, named(_name), rtol=1e-9)


def key(seed):
    """A key whose draws compile in a fifth of the time."""
    return jax.random.key(seed, impl="unsafe_rbg")


def pairs():
    """(x0, xt), each [V, V] int32, x0 down the rows."""
    return jnp.asarray(np.indices((V, V), np.int32))


def assert_frequencies(drawn, probs, false_alarm=1e-6):
    """Chi-squared test of drawn tokens against probs [V]; what is impossible must not occur.

    false_alarm: the chance that a correct sampler fails. Seeds are fixed, so a pass stays a pass.
    """
    drawn = np.asarray(drawn).ravel()
    counts = np.bincount(drawn, minlength=len(probs)).astype(float)
    assert len(counts) == len(probs), "a token outside the vocabulary was drawn"
    assert counts[probs == 0].sum() == 0, "an impossible token was drawn"
    expected = len(drawn) * probs
    rare = expected < 5
    observed, expected = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert observed[-1] < 5 + scipy.stats.poisson.isf(false_alarm, 5)
        observed, expected = observed[:-1], expected[:-1]
    if len(expected) > 1:
        statistic = np.sum((observed - expected) ** 2 / expected)
        assert statistic < scipy.stats.chi2.isf(false_alarm, len(expected) - 1), (observed, expected)


def random_posteriors(toy, t, rng, sharpness=2.0):
    """[V, V] by x_t: posteriors that are nobody's Bayes posterior, on the clean tokens that x_t can come from."""
    reach = toy.matrix(t).T > 0
    if toy.mask_id is not None:
        reach[:, toy.mask_id] = False
    weight = np.where(reach, np.exp(sharpness * rng.standard_normal((V, V))), 0)
    total = weight.sum(1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1), 0)


def log(p):
    """log p, and the code's stand-in for log 0."""
    return np.where(p > 0, np.log(np.where(p > 0, p, 1)), -1e30)


def true_rates(toy, posterior, t):
    """[V, V] by (x0, x_t): the integrand of the NELBO for posteriors [V, V] by x_t, written out:

    h(z | k) = (m'_t(z | k) + lambda(k) m_t(z | k)) / q_t(z | k), lambda the rate at which noise is renewed: what
    arrives at z. It was k itself, from which -alpha' leave, or other noise, of which lambda (1 - alpha) is renewed,
    in proportion: R(y) = h(z | k) (-alpha' 1[y = k] + lambda(k) m_t(y | k)) / (-alpha' + lambda(k) (1 - alpha));
    R_theta(y) = sum_k p(k) R(y | k);   the sum over y != z of R_theta - R + R log(R / R_theta).
    NaN where x_t cannot come from x0.
    """
    q, m, left = toy.matrix(t), toy.noise(t), -toy.alpha_derivative(t)
    renewed = toy.kept_rate(t)
    arrived = toy.noise_derivative(t) + renewed[:, None] * m
    assert arrived.min() > -1e-6 * (1 + np.abs(renewed).max())
    h = np.where(q > 0, np.maximum(arrived, 0) / np.where(q > 0, q, 1), 0)
    sources = left * np.eye(V) + renewed[:, None] * m
    sources = sources / (left + renewed * (1 - toy.alpha(t)))[:, None]
    rate = h[:, :, None] * sources[:, None, :]
    model = np.broadcast_to(np.einsum("zk,kzy->zy", posterior, rate), rate.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = model - rate + np.where(rate > 0, rate * np.log(rate / model), 0)
    terms = np.where(np.eye(V, dtype=bool)[None], 0, terms)
    return np.where(q > 0, terms.sum(-1), np.nan)


def possible(toy, times):
    """[T, V, V]: pairs that occur; no text holds the mask."""
    pairs = np.stack([toy.matrix(t) for t in times])
    if toy.mask_id is not None:
        pairs[:, toy.mask_id] = 0
    return pairs


def divergence(p, q):
    """KL(p || q) in nats."""
    return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))


def mixed_prior(toy, t):
    """[V]: what the model starts from at t: the prior, and a flat share for what is still kept."""
    alpha = toy.alpha(t)
    return alpha / V + (1 - alpha) * toy.prior(t)
