"""Where in time each row of an evaluation is scored."""

import numpy as np


def stratified_uniforms(seed: int, rows: int, draws: int) -> np.ndarray:
    """[rows, draws] float32 in [0, 1): one point in each of rows x draws equal strata.

    The draws of a row fall one in each of `draws` equal parts of [0, 1), in random order, and within every part the
    rows fall one in each of `rows` equal parts of it, in random order. So each point alone is uniform on [0, 1),
    whatever the row and the draw; the mean over a row's draws is as unbiased as one draw and varies less; and so is
    and does the mean over rows. What a row gets depends on the seed, its index and the two counts, and on nothing else:
    not on batches, their padding, or the number of processes.
    """
    generator = np.random.default_rng(seed)
    order = generator.permuted(np.broadcast_to(np.arange(rows)[:, None], (rows, draws)), axis=0)
    within = (order + generator.random((rows, draws))) / rows
    parts = generator.permuted(np.broadcast_to(np.arange(draws), (rows, draws)), axis=1)
    points = (parts + np.take_along_axis(within, parts, axis=1)) / draws
    return np.minimum(points, 1 - 2.0**-24).astype(np.float32)  # rounding would reach 1
