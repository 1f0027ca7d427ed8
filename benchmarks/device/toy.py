"""wiki.py's data with a network and batches so small that a few steps of every system run on a CPU."""

from benchmarks.device import wiki


def get_config(system=None):
    config = wiki.get_config(system)
    config.network.update(width=32, layers=1, heads=2, condition_width=8, unroll=1)
    config.training.update(batch_size=4, log_every=1)
    config.evaluation.update(batch_size=4, valid_batches=1, draws=1)
    return config
