"""Batches of rows: by Grain for training (endless, shuffled, resumed at the exact batch); in one ordered pass for
evaluation.

Batches are dicts {'tokens': [B, L] int32, 'mask': [B, L] bool}; the mask is False on padding.
"""

import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from semdlm_jax.data.protocols import Rows
from semdlm_jax.errors import UserError

_IN_LINE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # tokens lie in memory: threads would only contend


def train_iterator(
    rows, batch_size: int, seed: int, held: Sequence[int] | np.ndarray | None = None
) -> grain.DatasetIterator:
    """An endless iterator of batches over rows of training: batch b is rows b * batch_size … of one global order.

    An epoch has every row once. The order of the rows, and the cuts of the stream where the protocol cuts it, are
    random, differ between epochs, and depend only on the seed and the epoch. The state of the iterator is the number of
    batches drawn, so it can be continued on another number of processes: all share the order, and each makes the rows
    of its own devices.

    Args:
      rows: of the train split.
      batch_size: rows of a batch, over all processes.
      seed: of order and cuts.
      held: which rows of every batch are made, ascending; None for all.

    Raises:
      UserError: a stream shorter than a row.
    """
    epoch_size = rows.count
    if not epoch_size:
        raise UserError(f"{len(rows.tokens)} training tokens are fewer than a window of {rows.length}: use more text")
    order = grain.MapDataset.range(epoch_size).seed(seed).shuffle().repeat()

    @functools.lru_cache(maxsize=2)
    def shift(epoch):
        return int(np.random.default_rng((seed, epoch)).integers(len(rows.tokens)))

    def row(index):
        return rows.training_row(order[index], shift(index // epoch_size))

    def batch(number, held):
        tokens, masks = zip(*(row(number * batch_size + i) for i in held))
        return {"tokens": np.stack(tokens), "mask": np.stack(masks)}

    return _endless(batch, batch_size, held)


def synthetic_iterator(
    vocab_size: int,
    length: int,
    batch_size: int,
    seed: int,
    forbidden_ids: Sequence[int] = (),
    held: Sequence[int] | np.ndarray | None = None,
) -> grain.DatasetIterator:
    """Batches of uniform random tokens without forbidden_ids, with the interface of `train_iterator`."""
    allowed = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), np.asarray(forbidden_ids, np.int32))
    if not len(allowed):
        raise UserError(f"all {vocab_size} tokens are forbidden: use a larger vocab_size")

    def batch(number, held):
        drawn = np.random.default_rng((seed, number)).integers(len(allowed), size=(batch_size, length))
        tokens = allowed[drawn[held]]
        return {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}

    return _endless(batch, batch_size, held)


def _endless(batch, batch_size, held):
    """An iterator of batch(number, held) for numbers 0, 1, …"""
    held = list(range(batch_size) if held is None else map(int, held))
    return iter(grain.MapDataset.range(2**62).map(lambda number: batch(number, held)).to_iter_dataset(_IN_LINE))


def eval_batches(rows: Rows, batch_size: int, limit: int | None = None) -> Iterator[dict]:
    """Yields the first rows of one ordered pass in batches, the same on every process; `row` [B] int32 is each one's
    index. The last batch is filled up with rows whose mask is all False and whose index goes on.

    limit: of rows; None for all.
    """
    count = scored_rows(rows, limit)
    for first in range(0, count, batch_size):
        tokens = np.full((batch_size, rows.length), rows.pad_id, np.int32)
        mask = np.zeros((batch_size, rows.length), bool)
        for i in range(min(batch_size, count - first)):
            tokens[i], mask[i] = rows.ordered_row(first + i)
        yield {"tokens": tokens, "mask": mask, "row": np.arange(first, first + batch_size, dtype=np.int32)}


def scored_rows(rows: Rows, limit: int | None = None) -> int:
    """How many rows `eval_batches` yields, filling left out."""
    return rows.ordered_count if limit is None else min(limit, rows.ordered_count)
