"""Text encoded by several processes: the same bytes, in bounded memory, and one sentence where one of them fails."""

import dataclasses
import os

import numpy as np
import pytest

from semdlm_jax.data import encoding, packing, workers
from semdlm_jax.data.documents import Corpus, Part
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.prepare import prepare
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Moody(OwnTokenizer):
    """Fails at one text, dies at another."""

    vocabulary: tuple[str, ...] = ("a", "b")

    def ids_of(self, text):
        if text == "die":
            os._exit(1)
        if text == "fail":
            raise ValueError("not this one")
        return [self.vocabulary.index(letter) for letter in text]

    def text_of(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@pytest.fixture
def from_the_first(monkeypatch):
    """Nothing is encoded at home, and a batch holds some characters."""
    monkeypatch.setattr(workers, "AT_HOME", 0)
    monkeypatch.setattr(packing, "BATCH_CHARACTERS", 200)


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "bert-base-uncased", "characters"])
def test_their_number_changes_no_byte(from_the_first, tmp_path, monkeypatch, tokenizer):
    rng, letters = np.random.default_rng(0), list("abcdefgh  .\n")
    documents = ["".join(rng.choice(letters, size)) for size in rng.integers(1, 700, 60)]
    corpus = Corpus(tuple(documents[:40]), tuple(documents[40:50]), tuple(documents[50:]), "toy", "letters")
    used, encode = [], encoding.encoded
    monkeypatch.setattr(encoding, "encoded", lambda *given: used.append(given[-1]) or encode(*given))
    files = []
    for count in (1, 2, 3):
        prepare(corpus, tmp_path / str(count), 40, True, tokenizer=tokenizer, workers=count, length=16)
        files.append({path.name: path.read_bytes() for path in (tmp_path / str(count)).iterdir()})
    assert used == [1, 2, 3] and {"train.npy", "test.starts.npy", "meta.json"} < files[0].keys()
    assert files[0] == files[1] == files[2]


def batches(texts):
    return [[Part("train", text, True)] for text in texts]


def test_a_small_text_is_encoded_at_home(monkeypatch):
    monkeypatch.setattr(workers, "_processes", lambda *_: pytest.fail("processes were started"))
    found = workers.encoded(batches(["ab"] * workers.AT_HOME), Moody(), workers=8)
    assert [ids.tolist() for _, (ids,) in found] == [[0, 1]] * workers.AT_HOME


def test_a_bounded_number_of_batches_is_read_ahead(from_the_first):
    read = 0

    def reading():
        nonlocal read
        for batch in batches(["a" * size for size in range(40)]):
            read += 1
            yield batch

    found = workers.encoded(reading(), HuggingFaceTokenizer.of_bytes(True), workers=2)
    for done, (_, (ids,)) in enumerate(found):
        assert len(ids) == done and read <= done + 2 * workers.AHEAD + 1
    assert read == 40


@pytest.mark.parametrize(
    "bad, told",
    [("fail", "Moody failed in ids_of .ValueError not this one, test_data_workers.py line"), ("die", "has died")],
)
def test_one_sentence_where_one_fails_or_dies(from_the_first, tmp_path, bad, told):
    found = workers.encoded(batches(["ab"] * 6 + [bad] + ["ba"] * 20), Moody(), workers=2)
    with pytest.raises(UserError, match=told):
        list(found)


def test_a_tokenizer_that_cannot_be_copied(from_the_first):
    tokenizer = Moody()
    object.__setattr__(tokenizer, "opened", open(os.devnull))
    with tokenizer.opened, pytest.raises(UserError, match="Moody cannot be copied .*: give --workers=1"):
        list(workers.encoded(batches(["ab"]), tokenizer, workers=2))
