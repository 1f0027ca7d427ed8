import itertools
from types import SimpleNamespace

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from semdlm_jax.data import pipeline, protocols
from semdlm_jax.errors import UserError

TOKENS = np.arange(5, 5 + 1003, dtype=np.uint16)  # every token tells its own place
LENGTH, BATCH = 8, 4
EPOCH = len(TOKENS) // LENGTH


def cut(tokens, length=LENGTH, name="packed"):
    return protocols.make_rows(name, tokens, length, SimpleNamespace(bos_id=2, eos_id=3, pad_id=0))


def train(tokens=TOKENS, length=LENGTH, name="packed", **changes):
    return pipeline.train_iterator(**{"rows": cut(tokens, length, name), "batch_size": BATCH, "seed": 1, **changes})


def synthetic(**changes):
    arguments = {"vocab_size": 50, "length": LENGTH, "batch_size": BATCH, "seed": 1, "forbidden_ids": (0, 3)}
    return pipeline.synthetic_iterator(**{**arguments, **changes})


def rows(iterator, batches):
    return np.concatenate([batch["tokens"] for batch in itertools.islice(iterator, batches)])


def test_every_window_of_an_epoch_is_seen_once_and_each_epoch_is_new():
    windows = rows(train(batch_size=1), 3 * EPOCH).reshape(3, EPOCH, LENGTH)
    assert ((windows - windows[..., :1]) % len(TOKENS) == np.arange(LENGTH)).all()  # each runs on, round the ring
    starts = windows[..., 0] - 5
    offsets = set()
    for epoch in starts:
        # Disjoint windows that cover all but the remainder: consecutive starts lie a length apart on the ring.
        gaps = np.diff(np.sort(epoch), append=np.sort(epoch)[0] + len(TOKENS))
        assert sorted(gaps) == [LENGTH] * (EPOCH - 1) + [LENGTH + len(TOKENS) % LENGTH]
        assert (np.diff(epoch) != LENGTH).mean() > 0.9  # shuffled
        offsets.add(tuple(sorted(epoch)))
    assert len(offsets) == 3


def test_batches_have_the_stated_form():
    for iterator in (train(), synthetic()):
        assert isinstance(iterator, grain.DatasetIterator)
        batch = next(iterator)
        assert batch["tokens"].shape == batch["mask"].shape == (BATCH, LENGTH)
        assert batch["tokens"].dtype == np.int32 and batch["mask"].dtype == bool and batch["mask"].all()


@pytest.mark.parametrize("make", [train, synthetic])
def test_the_seed_decides(make):
    np.testing.assert_array_equal(rows(make(), 5), rows(make(), 5))
    assert (rows(make(), 5) != rows(make(seed=2), 5)).any()


def padded(**changes):
    """Documents of 2 to 13 tokens, each of which tells its own place."""
    documents = [[2, *range(100 * i, 100 * i + i % 12), 3] for i in range(1, 63)]
    return train(np.concatenate(documents), name="padded", **changes)


def wrapped(**changes):
    return train(
        np.concatenate([[2, *range(100 * i, 100 * i + i % 12), 3] for i in range(1, 63)]), name="wrapped", **changes
    )


@pytest.mark.parametrize("make", [train, padded, wrapped, synthetic])
def test_resuming_equals_going_on(make, tmp_path):
    iterator = make()
    rows(iterator, EPOCH // BATCH - 2)  # so that the resumed part crosses an epoch
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        resumed = make()
        manager.restore(0, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(resumed)))
    np.testing.assert_array_equal(rows(resumed, 10), rows(iterator, 10))


PARTS = [[(0, 1), (2, 3)], [(0,), (1,), (2,), (3,)], [(0, 3), (1, 2)], [(0, 1), (2, 3), (0, 1), (2, 3)]]


@pytest.mark.parametrize("make", [train, padded, wrapped, synthetic])
@pytest.mark.parametrize("parts", PARTS)
def test_a_process_makes_its_rows_of_the_one_order(make, parts):
    whole = rows(make(), 40).reshape(40, BATCH, LENGTH)
    for held in parts:
        np.testing.assert_array_equal(rows(make(held=held), 40).reshape(40, len(held), LENGTH), whole[:, held])


@pytest.mark.parametrize("make", [train, padded, synthetic])
def test_resuming_on_another_number_of_processes_keeps_the_order(make):
    whole = rows(make(), 60).reshape(60, BATCH, LENGTH)
    one = make()
    rows(one, 11)
    for parts in PARTS:
        shards = [make(held=held) for held in parts]
        for shard, held in zip(shards, parts, strict=True):
            shard.set_state(one.get_state())
            np.testing.assert_array_equal(rows(shard, 20).reshape(20, len(held), LENGTH), whole[11:31, held])
        assert shards[0].get_state() == shards[-1].get_state()  # and back to any number again


def test_batches_are_those_of_runs_under_way():
    drawn = rows(train(), 70)  # crosses an epoch
    assert drawn[[0, 1, 139, 279], 0].tolist() == [332, 847, 298, 706]
    assert rows(synthetic(), 2)[-1, :4].tolist() == [9, 12, 15, 16]
    for iterator in (train(), synthetic()):
        rows(iterator, 3)
        assert iterator.get_state() == {"next_index": 3}


def test_every_document_is_a_row_once_an_epoch():
    drawn = rows(padded(batch_size=2), 62)
    firsts = np.where(drawn[:, 1] == 3, -1, drawn[:, 1]).reshape(2, 62)
    for epoch in firsts:
        assert sorted(epoch[epoch >= 0]) == [100 * i for i in range(1, 63) if i % 12]
    assert (firsts[0] != firsts[1]).any()


def test_changing_the_batch_size_keeps_the_order():
    np.testing.assert_array_equal(rows(train(batch_size=2), 12), rows(train(batch_size=8), 3))


def test_a_stream_of_one_window_repeats():
    window = rows(train(tokens=TOKENS[:LENGTH], batch_size=1), 1)[0]
    assert sorted(window) == list(TOKENS[:LENGTH])


def test_synthetic_tokens_are_uniform_over_the_allowed():
    drawn = rows(synthetic(batch_size=64), 50).ravel()
    counts = np.bincount(drawn, minlength=50)
    expected = np.full(50, len(drawn) / 48)
    expected[[0, 3]] = 0
    assert (np.abs(counts - expected) <= 6 * np.sqrt(expected)).all()


@pytest.mark.parametrize("total, limit", [(1, None), (32, None), (33, None), (100, 6), (0, None)])
def test_eval_batches_are_one_ordered_pass(total, limit):
    tokens = TOKENS[:total]
    batches = list(pipeline.eval_batches(cut(tokens), BATCH, limit))
    assert all(batch["tokens"].shape == batch["mask"].shape == (BATCH, LENGTH) for batch in batches)
    seen = np.concatenate([batch["tokens"][batch["mask"]] for batch in batches]) if batches else []
    np.testing.assert_array_equal(seen, tokens if limit is None else tokens[: limit * LENGTH])
    assert [row for batch in batches for row in batch["row"]] == list(range(len(batches) * BATCH))
    count = pipeline.scored_rows(cut(tokens), limit)
    assert count == sum(batch["mask"].any(1).sum() for batch in batches) and len(batches) == -(-count // BATCH)


@pytest.mark.parametrize(
    "make, changes, message",
    [
        (train, {"length": 1004}, "1003 training tokens are fewer than a window of 1004"),
        (synthetic, {"forbidden_ids": range(50)}, "all 50 tokens are forbidden"),
    ],
)
def test_bad_requests_are_told(make, changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)
