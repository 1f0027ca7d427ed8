"""The toys: every kernel in the code beside its definition, and what tests of every room need to compare them.

`toy_vocabulary` has the tokens, `toy_processes` and `toy_chains` the oracles, `toy_checks` what results are compared
with.
"""

import functools
import importlib.util
import math
from pathlib import Path

import numpy as np
from toy_chains import Chain, MaskRates, Nested, TwoDigits  # noqa: F401
from toy_checks import (  # noqa: F401
    assert_frequencies,
    compiled,
    divergence,
    key,
    log,
    mixed_prior,
    possible,
    random_posteriors,
    true_rates,
)
from toy_processes import Softmax, Toy  # noqa: F401
from toy_vocabulary import (  # noqa: F401  tests find all of a toy here
    ALONE,
    AT_MASK,
    COARSE,
    EMBEDDINGS,
    ENTROPY,
    FINE,
    FLAT,
    GAPPED,
    LOG_P_DATA,
    MASK,
    P_DATA,
    ROWS,
    SKEWED,
    SMOOTHED,
    K,
    V,
    lists,
    pairs,
    table,
    vocabulary,
)

from semdlm_jax.kernels import GlobalPrior, Kernel, branches, make_kernel, schedules


def _clock(name):
    """The noise 1 - alpha(t) of the schedules, where subtracting alpha from 1 would lose it; see `_kept` for alpha."""
    return {
        "linear": lambda t: t,
        "loglinear": lambda t: (1 - 1e-3) * t,
        "cosine": lambda t: (1 - 1e-3) * 2 * np.sin(math.pi * t / 4) ** 2,
        "geometric": lambda t: -np.expm1(-(1e-4 ** (1 - t)) * 20.0**t),
        "polynomial": lambda t: t * t,
    }[name]


def _kept(name):
    """alpha(t), where subtracting the noise from 1 would lose it."""
    return {"geometric": lambda t: np.exp(-(1e-4 ** (1 - t)) * 20.0**t)}.get(name, lambda t: 1 - _clock(name)(t))


def _global(name="linear"):
    return lambda t: (_kept(name)(t), _clock(name)(t), 0 * t, 0 * t)


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


def _above(*powers, clock=_clock("linear")):
    return lambda t: [clock(t) ** power for power in (1, *powers)] + [0 * t]


_WHOLE = np.zeros(V)
_POLYNOMIAL = schedules.Polynomial(2.0)
_SEMANTIC_MASK = named("semantic_mask")
TOYS = {
    toy.name: toy
    for toy in (
        Toy("absorbing", named("absorbing"), _global(), ALONE, AT_MASK, exact=True, mask_id=MASK),
        Toy("uniform", named("uniform"), _global(), ALONE, FLAT, exact=True),
        Toy("unigram", named("unigram"), _global(), ALONE, SKEWED, exact=True),
        _hybrid_toy("hybrid", 0.2),
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
        Nested("nested", named("nested", blocks="4"), _above(2), (FINE, _WHOLE), FLAT, exact=True),
        Nested(
            "nested_deep",
            named("nested", blocks="4,2", powers="1.5,4", prior="unigram"),
            _above(1.5, 4),
            (FINE, COARSE, _WHOLE),
            SMOOTHED,
            exact=True,
        ),
        Nested(
            "nested_mask",
            named("nested", blocks="4", resampled=1, schedule=_POLYNOMIAL),
            _above(2, clock=_clock("polynomial")),
            (FINE,),
            FLAT,
            exact=True,
            mask_id=MASK,
        ),
        # Of the counts 1, 4, ..., 144 the last three make half of the text.
        MaskRates(
            "mask_rates",
            named("absorbing", frequency_powers="0.6,1.5"),
            np.where(np.arange(V) >= 9, 0.6, 1.5),
            0.6,
            exact=True,
            mask_id=MASK,
        ),
        # Every schedule, each on a kernel of another kind.
        Toy(
            "absorbing_cosine",
            named("absorbing", schedule=schedules.Cosine()),
            _global("cosine"),
            ALONE,
            AT_MASK,
            exact=True,
            mask_id=MASK,
        ),
        Toy(
            "uniform_geometric",
            named("uniform", schedule=schedules.Geometric()),
            _global("geometric"),
            ALONE,
            FLAT,
            exact=True,
        ),
        _hybrid_toy("hybrid_loglinear", 0.1, "loglinear"),
        Toy(
            "plus_polynomial",
            named("semdlm_plus", gamma=0.5, schedule=_POLYNOMIAL),
            _semantic(0.5, _clock("polynomial")),
            ROWS,
            FLAT,
            kinks=tuple(math.sqrt(kink) for kink in kinks(0.5)),
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


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@functools.cache
def example(name):
    """The module of a file of the documentation, without an entry among the modules that are imported."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


example("less_drift")  # registers it
TOYS["less_drift"] = Toy(
    "less_drift",
    named("less_drift"),
    lambda t: (1 - t, t * (1 - (1 - t) / 2), t * (1 - t) / 2, (K - 1) * t),
    ROWS,
    FLAT,
    kinks=kinks(1.0),
)


TOYS["two_digits"] = TwoDigits("two_digits", lambda: example("two_digits").TwoDigits().build(vocabulary()))

# One toy of each mechanism: the others differ from these in a schedule, a prior, or the powers and number of levels.
MECHANISMS = {
    name: TOYS[name]
    for name in (
        "absorbing",
        "unigram",
        "hybrid",
        "semdlm_plus",
        "practical_unfinished",
        "semantic_knn",
        "semantic_softmax",
        "semantic_mask",
        "nested",
        "nested_mask",
        "mask_rates",
        "two_digits",
    )
}
