"""Vocabularies of Hugging Face's library against the library itself, and what ours adds to them."""

import json

import numpy as np
import pytest
import toy_tokenizers
from huggingface_hub import constants

from semdlm_jax.data import conditioning, files, prepare
from semdlm_jax.data.corpora import Corpus
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.packing import pack, unpack
from semdlm_jax.data.tokenizers import given_tokenizer, load_tokenizer
from semdlm_jax.data.wordpiece import WordPieceTokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.semantics.inspection import find_piece

TEXT = ["The state of the union is strong.\n\nA union  of states, naïve 漢字!\n", "the union of the states"] * 3
HARD = "  The\tstate\r\n\n\nof 漢字 \U0001f600 <|endoftext|><pad> <unk><s></s> [MASK] <mask> \u0301\x01 "
MAKERS = (toy_tokenizers.byte_level, toy_tokenizers.unigram, toy_tokenizers.whole_words)


def ours(backend, lowercase=False):
    return HuggingFaceTokenizer(backend.to_str(), lowercase)


@pytest.fixture(scope="module")
def gpt():
    return ours(toy_tokenizers.byte_level(TEXT))


@pytest.mark.parametrize("make", MAKERS)
def test_ids_are_the_librarys_own(make):
    backend = make(TEXT)
    backend.add_tokens(["of the"])
    tokenizer = ours(backend)
    for text in [*TEXT, "", "states of the union"]:
        np.testing.assert_array_equal(tokenizer.encode(text), backend.encode(text, add_special_tokens=False).ids)
    known = backend.get_vocab()
    assert [known[backend.id_to_token(i)] for i in range(len(known))] == list(range(len(known)))
    assert set(tokenizer.special_ids) >= {
        known[piece] for piece in known if piece in ("<|endoftext|>", "[UNK]", "[MASK]")
    }
    assert all(i >= len(known) for i in range(tokenizer.vocab_size) if i not in known.values())


@pytest.mark.parametrize("make", [*MAKERS, lambda texts: toy_tokenizers.byte_level(texts, alphabet=False)])
def test_text_never_becomes_a_special(make):
    backend = make(TEXT)
    backend.add_special_tokens(["<pad>", "[MASK]", "▁", "state"])  # whatever the file calls one
    tokenizer = ours(backend)
    ids = tokenizer.encode(HARD + " ".join(tokenizer.pieces))
    assert set(ids) & set(tokenizer.special_ids) <= {tokenizer.unk_id}
    roles = tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id
    assert len(set(roles)) == 5 and tokenizer.decode(roles) == ""
    assert tokenizer.pad_id == backend.token_to_id("<pad>") and tokenizer.mask_id == backend.token_to_id("[MASK]")


def test_byte_level_restores_every_text(gpt):
    assert gpt.decode(gpt.encode(HARD)) == HARD and gpt.unk_id not in gpt.encode(HARD)
    assert [gpt.pieces[i] for i in gpt.special_ids] == ["<|endoftext|>", "<pad>", "<unk>", "<s>", "<mask>"]
    assert gpt.eos_id == 0 and gpt.pad_id == gpt.vocab_size - 4
    for tokenizer in (given_tokenizer("bytes", False), HuggingFaceTokenizer.of_characters([HARD], False)):
        assert tokenizer.decode(tokenizer.encode(HARD)) == HARD
    assert given_tokenizer("bytes", True).encode("Aé").tolist() == list("aé".encode())
    partial = ours(toy_tokenizers.byte_level(TEXT, alphabet=False))
    assert partial.encode("the Q")[-1] == partial.unk_id  # the library drops what it lacks


def test_pieces_read_as_a_person_writes_them(gpt):
    union = find_piece("union", gpt.pieces)
    assert gpt.pieces[union] == "▁union" and gpt.texts[union] == "union" and gpt.starts_word[union]
    assert gpt.pieces[gpt.newline_id] == "\n" and "<0xE6>" in gpt.pieces and "▁" in gpt.pieces
    assert not gpt.starts_word[gpt.pieces.index("▁")] and not gpt.starts_word[gpt.pieces.index("e")]
    letters = HuggingFaceTokenizer.of_characters(["abz \n"], True)
    assert letters.pieces[:5] == ("\n", "▁", "a", "b", "z") and letters.newline_id == 0
    assert letters.starts_word.tolist() == [False, False, True, True, True] + [False] * 5


@pytest.mark.parametrize("prefix", [False, True])
def test_text_behind_other_text_goes_on_with_it(prefix):
    tokenizer = ours(toy_tokenizers.byte_level(TEXT, prefix=prefix))
    assert tokenizer.decode(tokenizer.encode_after("union of")) == "union of"
    assert tokenizer.pieces[tokenizer.encode_after(" union")[0]] == "▁union"
    condition = conditioning.fill_in(tokenizer, "the [_] union\n[_]ate", 100)
    assert np.flatnonzero(~condition.known).tolist() == [1, 4]
    assert "".join(tokenizer.decode([i]) for i in condition.start[condition.known]).strip() == "the union\nate"
    letters = HuggingFaceTokenizer.of_characters(TEXT, True)
    condition = conditioning.fill_in(letters, "the [_]n", 100)  # the space is no part of what is filled in
    assert letters.decode(condition.start[condition.known]) == "the n"


@pytest.mark.parametrize("make", [toy_tokenizers.byte_level, None])
def test_parts_of_a_document_join_as_they_were(make, monkeypatch):
    monkeypatch.setattr(files, "PART", 5)
    tokenizer = ours(make(TEXT)) if make else HuggingFaceTokenizer.of_characters(TEXT, False)
    assert unpack(pack(TEXT, tokenizer), tokenizer) == TEXT


@pytest.mark.parametrize("spec", ["tokenizer:{}/tokenizer.json", "hf:{}", "characters", "bytes"])
def test_the_vocabulary_travels_with_the_data(spec, tmp_path):
    toy_tokenizers.byte_level(TEXT).save(str(tmp_path / "tokenizer.json"))
    corpus, spec = Corpus(tuple(TEXT), ("the union",), ("a state",), "toy", "a toy"), spec.format(tmp_path)
    made = prepare.prepare(corpus, tmp_path / "data", 999, False, tokenizer=spec)
    assert "vocab_size" not in made.meta["settings"] and made.meta["files"].keys() > {HuggingFaceTokenizer.FILE}
    assert unpack(made.splits["train"], load_tokenizer(tmp_path / "data")) == TEXT
    assert prepare.prepare(corpus, tmp_path / "data", 5, False, tokenizer=spec).tokenizer == made.tokenizer
    path = tmp_path / "data" / HuggingFaceTokenizer.FILE
    path.write_text(path.read_text().replace("a", "b", 1))
    with pytest.raises(UserError, match=f"{path.name} has other contents"):
        prepare.open_prepared(tmp_path / "data")


def test_a_model_in_the_local_cache_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--openai-community--gpt2"
    for path, text in ("refs/main", "abc"), ("snapshots/abc/tokenizer.json", toy_tokenizers.byte_level(TEXT).to_str()):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    for name in ("gpt2", "openai-community/gpt2"):
        found = given_tokenizer(f"hf:{name}", False)
        assert found.fingerprint == ours(toy_tokenizers.byte_level(TEXT)).fingerprint
    with pytest.raises(UserError, match=f"{tmp_path} holds no tokenizer.json"):
        given_tokenizer(f"hf:{tmp_path}", False)


def test_a_file_of_bert_is_read_as_wordpiece_and_others_only_here(tmp_path):
    path = tmp_path / "tokenizer.json"
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##ion")
    WordPieceTokenizer(pieces, True)._backend.save(str(path))
    assert given_tokenizer(f"tokenizer:{path}", True) == WordPieceTokenizer(pieces, True)
    toy_tokenizers.byte_level(TEXT).save(str(path))
    with pytest.raises(UserError, match="its model is BPE, not WordPiece: read it as tokenizer:PATH"):
        given_tokenizer(f"wordpiece:{path}", True)
    described = json.loads(path.read_text())
    described["model"]["dropout"] = 0.9  # which would draw other ids each time
    path.write_text(json.dumps(described, indent=1))
    assert given_tokenizer(f"tokenizer:{path}", True).encode(TEXT[1]).size < len(TEXT[1]) / 2


@pytest.mark.parametrize(
    "change",
    [
        {"model": 3},
        {"model": {}},
        {"added_tokens": [3]},
        {"decoder": {"type": "Nothing"}},
        {"model": {"vocab": {"a": 2**40}}},
    ],
)
def test_other_files_are_refused(change, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(toy_tokenizers.byte_level(TEXT).to_str()) | change))
    with pytest.raises(UserError, match="tokenizer.json") as error:
        given_tokenizer(f"tokenizer:{path}", False)
    assert "\n" not in str(error.value)


def test_ids_may_have_gaps():
    described = json.loads(toy_tokenizers.whole_words(TEXT).to_str())
    described["model"]["vocab"]["far"] = 40
    tokenizer = HuggingFaceTokenizer(json.dumps(described), False)
    assert tokenizer.encode("far").tolist() == [40] and 39 in tokenizer.special_ids and tokenizer.vocab_size == 45
