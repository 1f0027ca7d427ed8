"""MAUVE against areas known in closed form or by quadrature, and its quantization against planted clusters."""

import math

import numpy as np
import pytest
from scipy import integrate

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import mauve as room
from semdlm_jax.evaluation.mauve import area, frontier, mauve

DRAW = np.random.default_rng(0)
DISJOINT = 1 / math.comb(10, 5)  # c = 5


def test_equal_histograms_give_exactly_one():
    for size in (1, 2, 7, 500):
        p = DRAW.dirichlet(np.ones(size))
        assert area(frontier(p, p)) == 1


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_disjoint_supports(scale):
    """KL(p | r) = -ln lambda and KL(q | r) = -ln(1 - lambda): x = (1 - lambda)^c, y = lambda^c.

    The area, the integral of y dx, is c B(c + 1, c) = 1 / binomial(2c, c).
    """
    p, q = np.array([0.2, 0.8, 0, 0, 0]), np.array([0, 0, 0.5, 0, 0.5])
    assert area(frontier(p, q, scale, 2000)) == pytest.approx(1 / math.comb(2 * scale, scale), rel=2e-5)
    assert area(frontier(p, q, scale)) == pytest.approx(1 / math.comb(2 * scale, scale), rel=2e-4)


def exact(p, q, scale):
    """The area below the curve by quadrature: x(1) to the left of it, and y |dx/dlambda| from 0 to 1."""

    def x(share):
        return math.exp(-scale * np.sum(q * np.log(q / (share * p + (1 - share) * q))))

    def slope(share):
        mixture = share * p + (1 - share) * q
        y = math.exp(-scale * np.sum(p * np.log(p / mixture)))
        return y * x(share) * scale * np.sum(q * (q - p) / mixture)

    return x(1.0) + integrate.quad(slope, 0, 1, epsabs=1e-12)[0]


@pytest.mark.parametrize("scale", [1, 5])
@pytest.mark.parametrize("p, q", [(0.5, 0.4), (0.9, 0.2), (0.999, 0.02)])
def test_two_points_against_quadrature(p, q, scale):
    p, q = np.array([p, 1 - p]), np.array([q, 1 - q])
    assert area(frontier(p, q, scale)) == pytest.approx(exact(p, q, scale), rel=1e-4)


def test_the_curve_runs_between_the_axes_and_the_area_is_symmetric():
    p, q = DRAW.dirichlet(np.full(20, 0.2), size=2)
    p[:3], q[5:9] = 0, 0
    p, q = p / p.sum(), q / q.sum()
    curve = frontier(p, q)
    assert curve.shape == (502, 2) and curve[0].tolist() == [0, 1] and curve[-1].tolist() == [1, 0]
    assert (np.diff(curve[:, 0]) >= 0).all() and (np.diff(curve[:, 1]) <= 0).all()
    np.testing.assert_allclose(curve[::-1, ::-1], frontier(q, p), atol=1e-12)
    assert area(curve) == pytest.approx(area(frontier(q, p)), rel=1e-12)
    # Of p at its own end nothing is lost, of q, which has more, all.
    assert curve[1].tolist() == [0, 1] and curve[-2].tolist() == [1, 0]
    middle = frontier(p, q, 5, 3)[2]
    mixture = (p + q) / 2
    for found, one in zip(middle, (q, p)):
        one, other = one[one > 0], mixture[one > 0]
        assert found == pytest.approx(np.exp(-5 * np.sum(one * np.log(one / other))), rel=1e-12)


def test_many_pairs_at_once(monkeypatch):
    p, q = DRAW.dirichlet(np.ones(6), size=(2, 5))
    monkeypatch.setattr(room, "AT_ONCE", 2 * 6 * 500)
    np.testing.assert_allclose(room.areas(p, q), [area(frontier(a, b)) for a, b in zip(p, q)], rtol=1e-13)


def test_histograms_with_weights_and_the_smoothing_of_krichevsky_and_trofimov():
    labels, weights = np.array([0, 2, 2, 3]), np.array([[1.0, 1, 1, 1], [4, 0, 0, 0]])
    np.testing.assert_allclose(room.histogram(labels, weights, 4), [[0.25, 0, 0.5, 0.25], [1, 0, 0, 0]])
    np.testing.assert_allclose(
        room.histogram(labels, weights, 4, smoothed=True)[0], (np.array([1, 0, 2, 1]) + 0.5) / (4 + 4 / 2)
    )


def planted(centers, rows, seed, spread=0.02):
    draw = np.random.default_rng(seed)
    return centers[np.arange(rows) % len(centers)] + spread * draw.normal(size=(rows, centers.shape[1]))


CENTERS = np.random.default_rng(1).normal(size=(15, 8))
FEW = CENTERS[:5]  # less than K: no cluster holds features of two


def test_lengths_of_features_do_not_count():
    rows = planted(CENTERS, 150, 0) * DRAW.uniform(0.5, 2, size=(150, 1))
    (labels, *_), kept, share = room.quantize(rows, 15, seed=0)
    assert len({(int(label), i % 15) for i, label in enumerate(labels)}) == len(set(labels)) == 15
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    variances = np.linalg.svd(unit - unit.mean(0), compute_uv=False) ** 2
    shares = np.cumsum(variances) / variances.sum()
    assert share == pytest.approx(shares[kept - 1]) and share >= 0.9 > shares[kept - 2]


def test_features_of_two_sets():
    same, other, far = (planted(FEW, 180, 0), planted(FEW, 150, 1), planted(-FEW, 150, 2))
    again, near, disjoint = (mauve(given, same, seed=0, resamples=40) for given in (same, other, far))
    assert again.interval.value == 1 and again.interval.high == 1 and again.curve.shape == (502, 2)
    assert near.interval.value > 0.9 and near.interval.low < near.interval.value <= near.interval.high <= 1
    assert disjoint.interval.value == pytest.approx(DISJOINT, rel=1e-3) and disjoint.interval.low >= 0
    assert area(near.curve) == pytest.approx(near.interval.value, rel=1e-12)
    assert mauve(other, same, seed=0, resamples=40).interval == near.interval
    # Smoothing draws histograms together.
    smoothed = mauve(far, same, seed=0, smoothed=True, resamples=2)
    assert 2 * DISJOINT < smoothed.interval.value < 0.1
    told = "150 generated and 180 reference texts; features of unit length, ", "K = 15 by k-means", "; plain histograms"
    assert all(words in near.protocol for words in told)
    assert smoothed.protocol.endswith("; Krichevsky-Trofimov histograms; c = 5, 500 points")


def test_the_interval_is_over_the_clusters_of_all_restarts(monkeypatch):
    ours, theirs = np.array([[0], [1], [1]]), np.array([[0], [2], [1]])  # equal, disjoint, equal, whatever is drawn
    labels = np.concatenate([ours.repeat(30, axis=1), theirs.repeat(30, axis=1)], axis=1)
    monkeypatch.setattr(room, "quantize", lambda *_: (labels, 1, 1.0))
    found = mauve(np.ones((30, 2)), np.ones((30, 2)), seed=0, resamples=300).interval
    lowest, middle = DISJOINT, (2 + DISJOINT) / 3
    assert found == (1, pytest.approx(1 + lowest - middle, rel=1e-3), 1)


def test_equal_features_fill_one_cluster():
    found = mauve(np.ones((20, 3)), np.ones((30, 3)), seed=0)
    assert found.interval == (1, 1, 1)


def test_too_few_texts_and_useless_features():
    assert [room.clusters_for(n, 6000) for n in (20, 100, 5000, 9000)] == [2, 10, 500, 500]
    with pytest.raises(UserError, match="at least 20 generated and 20 reference texts .*, not 12 and 500: give more"):
        room.clusters_for(12, 500)
    with pytest.raises(UserError, match="features of 3 and 4 numbers"):
        mauve(np.ones((20, 3)), np.ones((20, 4)), seed=0)
    with pytest.raises(UserError, match="not finite"):
        mauve(np.full((20, 3), np.nan), np.ones((20, 3)), seed=0)
