"""Streams to batches: Grain for training (infinite, shuffled, resumable to the batch), one ordered pass for evaluation.

Batches are dicts {'tokens': [B, L] int32, 'mask': [B, L] bool}; the mask is False on padding.
"""

import functools

import grain
import numpy as np

from semdlm_jax.data import packing
from semdlm_jax.errors import UserError

_IN_LINE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # tokens lie in memory: threads would only contend


def train_iterator(tokens, length, batch_size, seed, process_index=0, process_count=1):
    """An endless grain.DatasetIterator over windows of the stream, in one global order for all processes.

    tokens: [N] int. batch_size: of all processes together; process p gets rows p, p + process_count, … of the order,
    so its batches have batch_size / process_count rows. An epoch is the N // length disjoint windows from a random
    offset, the stream taken as a ring, in random order; offset and order are new each epoch and depend on the seed
    and the epoch alone. The iterator's state is the number of batches drawn.
    UserError: a batch that does not divide, or a stream shorter than a window.
    """
    rows = _rows(batch_size, process_count)
    epoch_size = len(tokens) // length
    if not epoch_size:
        raise UserError(f"{len(tokens)} training tokens are fewer than a window of {length}: use more text")
    tokens = np.asarray(tokens)  # an ndarray view: slicing a memmap object is several times slower

    @functools.lru_cache(maxsize=2)
    def offset(epoch):
        return int(np.random.default_rng((seed, epoch)).integers(len(tokens)))

    def window(index, place):
        return packing.cyclic_window(tokens, offset(index // epoch_size) + place * length, length)

    order = grain.MapDataset.range(epoch_size).seed(seed).shuffle().repeat()
    windows = order.map_with_index(window)[process_index::process_count]
    return iter(windows.batch(rows, drop_remainder=True).map(_unmasked).to_iter_dataset(_IN_LINE))


def synthetic_iterator(vocab_size, length, batch_size, seed, forbidden_ids=(), process_index=0, process_count=1):
    """Batches of uniform random tokens without forbidden_ids, with the interface of `train_iterator`."""
    _rows(batch_size, process_count)
    allowed = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), np.asarray(forbidden_ids, np.int32))
    if not len(allowed):
        raise UserError(f"all {vocab_size} tokens are forbidden: use a larger vocab_size")

    def batch(step):
        drawn = np.random.default_rng((seed, step)).integers(len(allowed), size=(batch_size, length))
        return _unmasked(allowed[drawn[process_index::process_count]])

    return iter(grain.MapDataset.range(2**62).map(batch).to_iter_dataset(_IN_LINE))


def eval_batches(tokens, length, batch_size, limit=None):
    """Yields the stream's windows once, in order; the last window and the last batch are padded, mask False.

    tokens: [N] int. limit: stop after so many batches, None for all. Padding tokens are 0.
    """
    count = -(-len(tokens) // (length * batch_size))
    for batch in range(count if limit is None else min(limit, count)):
        windows, mask = packing.ordered_windows(tokens, length, batch * batch_size, batch_size)
        yield {"tokens": windows, "mask": mask}


def _rows(batch_size, process_count):
    if batch_size % process_count:
        raise UserError(f"batch_size = {batch_size} does not divide among {process_count} processes: use a multiple")
    return batch_size // process_count


def _unmasked(tokens):
    return {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}
