"""Spherical k-means with clusters of limited sizes, of the same result on every machine and for any number of threads.

Vectors are rounded to multiples of 2^-20. Their products are then sums of whole numbers below 2^53, which float64
computes without rounding, in whatever order.
"""

import math
from collections.abc import Sequence

import numpy as np

ROUNDS = 30  # at most
STEP = 2.0**-20  # of the grid of vectors
SMALLEST, LARGEST = 0.5, 2.0  # a cluster has at least and at most this many times the mean number of points
WIDEST = 256  # clusters found at once: bounds memory
SAMPLE, TRIED = 16, 16  # of the first centers: with 4 tries, a quarter of planted clusterings are missed


def size_limits(points: int, clusters: int) -> tuple[int, int]:
    """(fewest, most) points that a cluster may have."""
    return max(1, int(SMALLEST * points / clusters)), math.ceil(LARGEST * points / clusters)


def cluster(vectors: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of vectors of like direction.

    Args:
        vectors: [N, E]; a longer one counts more in the center of its cluster.
        clusters: how many, 1 to N; in two steps where they are more than WIDEST.
        rng: of the first centers.

    Returns:
        [N] int, 0 to clusters - 1. Every cluster has a size within `size_limits`; in two steps, within those of each.
    """
    if clusters <= WIDEST:
        return _lloyd(vectors, clusters, rng)
    coarse = _lloyd(vectors, math.isqrt(clusters), rng)
    parts = shares(np.bincount(coarse), clusters)
    found, before = np.empty(len(vectors), int), 0
    for index, part in enumerate(parts):
        members = np.flatnonzero(coarse == index)
        found[members] = before + cluster(vectors[members], part, rng)
        before += part
    return found


def sums_of(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """[C, E]: the sum of the vectors [N, E] of every cluster. clusters: [N] int, 0 to C - 1, none of them empty."""
    order = np.argsort(clusters, kind="stable")
    ordered = clusters[order]
    return np.add.reduceat(vectors[order], np.searchsorted(ordered, np.arange(ordered[-1] + 1)))


def shares(lengths: Sequence[int] | np.ndarray, wanted: int) -> np.ndarray:
    """How many of `wanted` parts each group gets: at least one, at most one a member, in proportion to its length.

    Args:
        lengths: [G] int, members of every group.
        wanted: from G to the number of members.
    """
    members = np.asarray(lengths)
    found = np.ones(len(members), int)
    for _ in range(wanted - len(members)):
        found[np.where(found < members, members / found, 0).argmax()] += 1
    return found


def _on_grid(vectors):
    """Rows of unit length, rounded; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.round(vectors / np.where(lengths > 0, lengths, 1) / STEP) * STEP


def _lloyd(vectors, clusters, rng):
    """[N] int: centers and clusters in turn until the clusters stay."""
    unit = _on_grid(vectors)
    low, high = size_limits(len(unit), clusters)
    centers, found = _first_centers(unit, clusters, rng), np.full(len(unit), -1)
    for _ in range(ROUNDS):
        before, found = found, limited(unit @ centers.T, low, high)
        if (before == found).all():
            break
        centers = _on_grid(sums_of(vectors, found))
    return found


def _first_centers(unit, clusters, rng):
    """[clusters, E]: some of the vectors, far from one another.

    Among SAMPLE vectors a cluster, each is the best of TRIED, which are drawn by their squared distance from those
    before (greedy k-means++).
    """
    unit = unit[rng.permutation(len(unit))[: SAMPLE * clusters]]
    chosen, distance = [0], np.maximum(1 - unit @ unit[0], 0)
    while len(chosen) < clusters:
        total = distance.sum()
        weights = distance / total if total > 0 else np.full(len(unit), 1 / len(unit))
        drawn = rng.choice(len(unit), TRIED, p=weights)
        left = np.minimum(distance[:, None], np.maximum(1 - unit @ unit[drawn].T, 0))
        best = left.sum(0).argmin()
        chosen.append(int(drawn[best]))
        distance = left[:, best]
    return unit[chosen]


def limited(similarities: np.ndarray, low: int, high: int) -> np.ndarray:
    """The nearest center of every point, but points move to others until every center has from low to high of them.

    Points whose move loses the least similarity move first; equal ones by their place.

    Args:
        similarities: [N, C], low * C <= N <= high * C.

    Returns:
        [N] int.
    """
    chosen = similarities.argmax(1)
    centers = similarities.shape[1]
    while ((sizes := np.bincount(chosen, minlength=centers)) > high).any():
        _move(similarities, chosen, sizes - high, high - sizes)
    while ((sizes := np.bincount(chosen, minlength=centers)) < low).any():
        _move(similarities, chosen, sizes - low, low - sizes)
    return chosen


def _move(similarities, chosen, spare, room):
    """Moves points, in place, each to its nearest center with room. spare, room: [C], how many points may leave and
    enter a center. At least the one that loses least moves."""
    points = np.flatnonzero(spare[chosen] > 0)
    there = np.where(room > 0, similarities[points], -np.inf)
    target = there.argmax(1)
    loss = similarities[points, chosen[points]] - there.max(1)
    order = np.argsort(loss, kind="stable")
    points, target = points[order], target[order]
    leaves = _rank(chosen[points]) < spare[chosen[points]]
    points, target = points[leaves], target[leaves]
    enters = _rank(target) < room[target]
    chosen[points[enters]] = target[enters]


def _rank(groups):
    """[N]: how many earlier entries have the same value."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    rank = np.empty(len(groups), int)
    rank[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return rank
