"""The entropy of counted things."""

import numpy as np


def entropy(counts: np.ndarray) -> float:
    """Nats of the frequencies counts / sum(counts); 0.0 where nothing was counted."""
    counts = np.asarray(counts)
    frequencies = counts[counts > 0] / max(counts.sum(), 1)
    return float(0.0 - np.sum(frequencies * np.log(frequencies)))  # 0.0 - 0.0 has no sign
