"""The entropy of counted things."""

import numpy as np


def entropy(counts: np.ndarray) -> float:
    """Nats of the frequencies counts / sum(counts); 0.0 where nothing was counted."""
    counts = np.asarray(counts)
    frequencies = counts[counts > 0] / max(counts.sum(), 1)
    return float(0.0 - np.sum(frequencies * np.log(frequencies)))  # 0.0 - 0.0 has no sign


def smoothed_cross_entropy(counts: np.ndarray, known: np.ndarray) -> float:
    """Nats of the frequencies of `counts` under those of `known` + 1, none of which is 0; 0.0 without counts."""
    smoothed = np.asarray(known) + 1
    frequencies = np.asarray(counts) / max(np.sum(counts), 1)
    return float(0.0 - np.sum(frequencies * np.log(smoothed / smoothed.sum())))
