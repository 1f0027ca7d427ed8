"""Clusters of features of texts: principal components and k-means."""

import numpy as np

RESTARTS, ROUNDS = 5, 500


def principal(rows: np.ndarray, kept: float) -> tuple[np.ndarray, float]:
    """Rows in their first principal components.

    Args:
        rows: [N, D].
        kept: the share of the variance to hold.

    Returns:
        [N, P], centered, of the fewest components that hold it; the share that they hold.
    """
    centered = rows - rows.mean(0)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    variances = np.maximum(variances[::-1], 0)
    if not variances[0] > 0:
        return centered[:, :1], 1.0
    shares = np.cumsum(variances) / variances.sum()
    count = min(int(np.searchsorted(shares, kept)) + 1, len(shares))
    return centered @ directions[:, ::-1][:, :count], float(shares[count - 1])


def k_means(rows: np.ndarray, clusters: int, *, seed: int, restarts: int = RESTARTS) -> np.ndarray:
    """Clusters whose sum of squared distances to their means is small.

    Lloyd's rounds from k-means++ centers, until no row changes its cluster, at most 500.

    Args:
        rows: [N, D].
        clusters: K.
        seed: of the first centers.
        restarts: how many times from new centers.

    Returns:
        [restarts, N] int, 0 to K - 1, the best first. Clusters may be empty where rows are equal.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (2007).
    """
    streams = (np.random.default_rng([seed, restart]) for restart in range(restarts))
    found = [_lloyd(rows, _first_centers(rows, clusters, rng)) for rng in streams]
    return np.stack([labels for labels, _ in sorted(found, key=lambda one: one[1])])


def _lloyd(rows, centers):
    """([N] int, the sum of squared distances)."""
    labels = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        before, (labels, distances) = labels, _nearest(rows, centers)
        if (before == labels).all():
            break
        order = np.argsort(labels, kind="stable")
        present, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
        centers[present] = np.add.reduceat(rows[order], starts) / sizes[:, None]
    return labels, distances.sum()


def _nearest(rows, centers):
    """[N] int and [N]: the nearest center of each row and its squared distance."""
    squares = (centers**2).sum(1) - 2 * rows @ centers.T
    labels = squares.argmin(1)
    return labels, np.maximum(squares[np.arange(len(rows)), labels] + (rows**2).sum(1), 0)


def _first_centers(rows, clusters, rng):
    """[clusters, D]: rows, each drawn in proportion to its squared distance from those before."""
    chosen = [int(rng.integers(len(rows)))]
    distances = ((rows - rows[chosen[0]]) ** 2).sum(1)
    while len(chosen) < clusters:
        reach = np.cumsum(distances)
        # Beyond the last where all distances are 0: then every row is as good.
        chosen.append(min(int(np.searchsorted(reach, rng.uniform(0, reach[-1]), side="right")), len(rows) - 1))
        distances = np.minimum(distances, ((rows - rows[chosen[-1]]) ** 2).sum(1))
    return rows[chosen]
