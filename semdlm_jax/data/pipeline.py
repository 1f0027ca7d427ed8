"""Rows to batches: Grain for training (infinite, shuffled, resumable to the batch), one ordered pass for evaluation.

Batches are dicts {'tokens': [B, L] int32, 'mask': [B, L] bool}; the mask is False on padding.
"""

import functools

import grain
import numpy as np

from semdlm_jax.errors import UserError

_IN_LINE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # tokens lie in memory: threads would only contend


def train_iterator(rows, batch_size, seed, process_index=0, process_count=1):
    """An endless grain.DatasetIterator over rows of training, in one global order for all processes.

    rows: protocols.Rows. batch_size: of all processes together; process p gets rows p, p + process_count, … of the
    order, so its batches have batch_size / process_count rows. An epoch is every row once, in random order, from a
    stream cut at random (where the protocol cuts); both are new each epoch and depend on the seed and the epoch alone.
    The iterator's state is the number of batches drawn: it serves any number of processes.
    UserError: a batch that does not divide, or a stream shorter than a row.
    """
    share = _share(batch_size, process_count)
    epoch_size = rows.count
    if not epoch_size:
        raise UserError(f"{len(rows.tokens)} training tokens are fewer than a window of {rows.length}: use more text")

    @functools.lru_cache(maxsize=2)
    def shift(epoch):
        return int(np.random.default_rng((seed, epoch)).integers(len(rows.tokens)))

    def row(index, place):
        tokens, mask = rows.training_row(place, shift(index // epoch_size))
        return {"tokens": tokens, "mask": mask}

    order = grain.MapDataset.range(epoch_size).seed(seed).shuffle().repeat()
    drawn = order.map_with_index(row)[process_index::process_count]
    return iter(drawn.batch(share, drop_remainder=True).to_iter_dataset(_IN_LINE))


def synthetic_iterator(vocab_size, length, batch_size, seed, forbidden_ids=(), process_index=0, process_count=1):
    """Batches of uniform random tokens without forbidden_ids, with the interface of `train_iterator`."""
    _share(batch_size, process_count)
    allowed = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), np.asarray(forbidden_ids, np.int32))
    if not len(allowed):
        raise UserError(f"all {vocab_size} tokens are forbidden: use a larger vocab_size")

    def batch(step):
        drawn = np.random.default_rng((seed, step)).integers(len(allowed), size=(batch_size, length))
        tokens = allowed[drawn[process_index::process_count]]
        return {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}

    return iter(grain.MapDataset.range(2**62).map(batch).to_iter_dataset(_IN_LINE))


def eval_batches(rows, batch_size, limit=None):
    """Yields the rows of one ordered pass in batches; the last batch is filled up with rows whose mask is all False.

    rows: protocols.Rows. limit: stop after so many batches, None for all.
    """
    count = -(-rows.ordered_count // batch_size)
    for batch in range(count if limit is None else min(limit, count)):
        tokens = np.full((batch_size, rows.length), rows.pad_id, np.int32)
        mask = np.zeros((batch_size, rows.length), bool)
        first = batch * batch_size
        for i in range(min(batch_size, rows.ordered_count - first)):
            tokens[i], mask[i] = rows.ordered_row(first + i)
        yield {"tokens": tokens, "mask": mask}


def _share(batch_size, process_count):
    if batch_size % process_count:
        raise UserError(f"batch_size = {batch_size} does not divide among {process_count} processes: use a multiple")
    return batch_size // process_count
