"""The times at which each row of an evaluation is scored."""

import numpy as np


def stratified_uniforms(seed: int, rows: int, draws: int) -> np.ndarray:
    """[rows, draws] float32 in [0, 1): one point in each of rows x draws equal strata.

    [0, 1) is cut into `draws` equal parts, and each part into `rows` equal strata. A row has one draw in each part, in
    random order; within a part, each row has a stratum of its own, in random order. Each single point is therefore
    uniform on [0, 1), for every row and draw. Means over the draws of a row, and over rows, are unbiased and vary less
    than those of independent points. The points of a row depend on the seed, its index and the two counts only: not on
    batches, their padding or the number of processes.

    Args:
        seed: of the random order and of the points within strata.
        rows: how many are scored in all.
        draws: times a row.
    """
    generator = np.random.default_rng(seed)
    order = generator.permuted(np.broadcast_to(np.arange(rows)[:, None], (rows, draws)), axis=0)
    within = (order + generator.random((rows, draws))) / rows
    parts = generator.permuted(np.broadcast_to(np.arange(draws), (rows, draws)), axis=1)
    points = (parts + np.take_along_axis(within, parts, axis=1)) / draws
    return np.minimum(points, 1 - 2.0**-24).astype(np.float32)  # rounding would reach 1
