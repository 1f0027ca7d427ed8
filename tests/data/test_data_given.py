import gzip
import json
import os

import pytest

from semdlm_jax.data import files
from semdlm_jax.data import prepare as preparing
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.given import corpus_of, load_splits
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Three published splits: train two files of lines in a folder of folders, each other one file."""
    (tmp_path / "train" / "more").mkdir(parents=True)
    write(tmp_path / "train" / "more" / "b.txt", *(f"train b {i} of the words" for i in range(40)))
    write(tmp_path / "train" / "a.txt", *(f"train a {i} of the words" for i in range(40)))
    write(tmp_path / "valid.txt", "valid one", "", "valid two")
    write(tmp_path / "test.txt", "test is zebra")
    return tmp_path


def splits_of(corpus):
    found = {}
    for split, text in corpus.documents():
        found.setdefault(split, []).append(text)
    return found


def specs(folder, kind="lines", **changes):
    given = {"train": "train", "valid": "valid.txt", "test": "test.txt"} | changes
    return {split: f"{kind}:{folder}/{name}" if name else "" for split, name in given.items()}


def test_splits_are_as_given(folder):
    found = splits_of(load_splits(specs(folder)))
    assert found["train"] == [f"train {name} {i} of the words" for name in "ab" for i in range(40)]
    assert found["valid"] == ["valid one", "valid two"] and found["test"] == ["test is zebra"]
    whole = splits_of(load_splits(specs(folder, kind="text")))
    assert whole["train"] == [(folder / "train" / name).read_text() for name in ("a.txt", "more/b.txt")]
    assert whole["valid"] == [(folder / "valid.txt").read_text()]  # not cut, few as the files are


def test_a_split_that_is_not_given_is_drawn_from_documents(folder):
    write(folder / "train" / "a.txt", *(f"one {i}" for i in range(400)))
    corpus = load_splits(specs(folder, valid=""))
    found = splits_of(corpus)
    assert found["test"] == ["test is zebra"] and 5 <= len(found["valid"]) <= 60
    assert not set(found["valid"]) & set(found["train"]) and len(found["valid"]) + len(found["train"]) == 440
    assert "valid: drawn from train, 5.00% of its documents" in corpus.origin
    with pytest.raises(UserError, match="data.valid is not given, .* give data.valid"):
        load_splits(specs(folder, kind="text", valid=""))


def test_files_that_valid_and_test_share_are_told(folder):
    corpus = load_splits(specs(folder, valid="test.txt"))
    assert corpus.origin.endswith(f"valid and test both read {folder}/test.txt")


def test_directories_prepared_before_there_were_such_splits(folder):
    """Their settings lack what is asked now; they are opened, and preparing again changes nothing."""

    def prepare():
        return preparing.prepare(load_corpus(f"lines:{folder}/train"), folder / "data", 30, True)

    first, path = prepare(), folder / "data" / "meta.json"
    meta = json.loads(path.read_text())
    for name in ("train", "valid", "test", "field", "normalize", "byte_fallback"):
        del meta["settings"][name]
    for name in ("files", "sha256", "sha256_of_splits"):
        del meta[name]
    path.write_text(json.dumps(meta))
    again = prepare()
    assert again.meta["settings"] == first.meta["settings"] and again.tokenizer == first.tokenizer


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"test": "train/a.txt"}, "data.train and data.test both read .*a.txt: give each split files of its own"),
        ({"valid": "link/*"}, "both read .*a.txt: give"),
        ({"test": "none"}, "no file matches"),
        ({"test": "blank"}, "data.test = 'lines:.*blank' holds no text"),
    ],
)
def test_impossible_splits_are_told(folder, changes, message):
    write(folder / "blank", "", " ")
    os.symlink(folder / "train", folder / "link")
    with pytest.raises(UserError, match=message):
        load_splits(specs(folder, **changes))


def configured(**changes):
    data = defaults.get_config().data
    data.update(changes)
    return data


@pytest.mark.parametrize(
    "data, message",
    [
        ({"train": "lines:a"}, "data.corpus = 'sotu' and data.train = 'lines:a' are both given"),
        ({"test": "lines:a"}, "data.corpus = 'sotu' and data.test = 'lines:a' are both given"),
        ({"corpus": "", "test": "lines:a"}, "data.test is given without data.train"),
        ({"corpus": ""}, "data.corpus is empty"),
        ({"corpus": "", "train": "sotu"}, "data.train = 'sotu': .* files alone"),
        ({"field": "body"}, "data.field = 'body', but corpus 'sotu' has no fields"),
    ],
)
def test_one_source_is_named(data, message):
    with pytest.raises(UserError, match=message):
        corpus_of(configured(**data))


def test_preparing_learns_from_train_alone_and_says_where_splits_are_from(folder):
    given, digests = specs(folder), []
    for word in ("zebra", "quagga"):
        write(folder / "test.txt", f"test is {word}")
        prepared = preparing.prepare(load_splits(given), folder / word, 0, True, tokenizer="characters")
        assert "z" not in prepared.tokenizer.pieces and prepared.unknown_share("test") > 0
        assert prepared.unigram.sum() == len(prepared.splits["train"])
        settings = prepared.meta["settings"]
        assert {name: settings[name] for name in (*given, "corpus", "field")} == given | {"corpus": "", "field": "text"}
        assert all(f"{split}: " in prepared.meta["origin"] for split in given)
        assert all(spec in prepared.meta["origin"] for spec in given.values())
        digests.append(prepared.meta["sha256_of_splits"])
    assert digests[0].keys() == given.keys()
    assert [split for split in given if digests[0][split] != digests[1][split]] == ["test"]
    with pytest.raises(UserError, match="prepared with other settings, valid"):
        preparing.prepare(load_splits(given | {"valid": ""}), folder / "quagga", 0, True, tokenizer="characters")


TABLES = {
    "a.csv": 'id,body\n1,"one, ""two""\nlines"\n\n2,plain\n3,\n',
    "a.tsv": 'id\tbody\n1\t"one, ""two""\nlines"\n2\tplain\n3\t\n',
    "a.jsonl": "".join(json.dumps({"body": text}) + "\n" for text in ('one, "two"\nlines', "plain", None)),
}


@pytest.mark.parametrize("name", [*TABLES, "a.csv.gz"])
def test_a_named_field(tmp_path, name):
    text = TABLES[name.removesuffix(".gz")]
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    write(tmp_path / "b.jsonl", json.dumps({"body": "held"}))
    given = dict.fromkeys(("valid", "test"), f"text:{tmp_path}/b.jsonl") | {"train": f"text:{tmp_path}/{name}"}
    corpus = load_splits(given, "body")
    assert splits_of(corpus)["train"] == ['one, "two"\nlines', "plain"]
    assert corpus.skipped.rows == 1 and corpus.skipped.first.startswith(f"{tmp_path}/{name}, line ")
    with pytest.raises(UserError, match=f"{name}.* which has body|no column 'text' but id, body: name that"):
        load_splits(given, "text")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", 'text\none\n"two', "line 3: not a row of its table"),
        ("a.tsv", 'id\ttext\n1\t"one" two\n', "line 2: not a row of its table"),
        ("a.csv", "text,id\none,1\ntwo\n", "line 3: 1 cells under 2 columns"),
        ("a.csv", "", "no column 'text' but none"),
        ("a.txt", "words", "data.field = 'body', but .*a.txt, plain text, has no fields"),
    ],
)
def test_broken_tables_are_told(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    data = configured(corpus=f"text:{tmp_path}/{name}", field="body" if name == "a.txt" else "text")
    with pytest.raises(UserError, match=message):
        corpus_of(data)


def test_a_text_of_one_long_line_is_read_in_pieces(tmp_path, monkeypatch):
    """As text8 is: its tokens are those of the whole."""
    monkeypatch.setattr(files, "MAX_PARAGRAPH", 1000)
    monkeypatch.setattr(files, "PART", 300)
    text = " " + " ".join(f"word{'s' * (i % 7)} x" for i in range(900))
    for split in ("train", "valid", "test"):
        (tmp_path / split).write_text(text)
    corpus = load_splits({split: f"text:{tmp_path}/{split}" for split in ("train", "valid", "test")})
    assert sum(1 for _ in corpus.parts()) > 30 and splits_of(corpus)["train"] == [text]
    for tokenizer in ("characters", "bytes", "sentencepiece"):
        prepared = preparing.prepare(corpus, tmp_path / tokenizer, 18, True, tokenizer=tokenizer)
        whole = prepared.tokenizer.encode(text)
        assert prepared.splits["train"][1:-1].tolist() == whole.tolist()


def test_files_are_the_same_however_their_paths_are_spelled(folder, monkeypatch):
    """Prepared from one directory by relative globs, opened and prepared again from another."""
    os.symlink(folder / "train", folder / "link")

    def make(*named, kind="lines"):
        data = defaults.get_config().data
        data.update(corpus="", train=f"{kind}:{named[0]}", valid=f"lines:{named[1]}", test=f"lines:{named[2]}")
        return data

    def prepare(data):
        return preparing.prepare(corpus_of(data), folder / "data", 0, True, tokenizer="bytes")

    monkeypatch.chdir(folder)
    prepare(make("train/**/*.txt", "valid.txt", "test.txt"))
    monkeypatch.chdir(folder / "train")
    same = make(f"{folder}/link", "../valid.txt", f"{folder}/train/../t?st.txt")
    prepared, splits = prepare(same), ("train", "valid", "test")
    assert prepared.differing({split: same[split] for split in splits}) == {}
    other = make(f"{folder}/train/*.txt", "../test.txt", "valid.txt", kind="text")
    assert prepared.differing({split: other[split] for split in splits}).keys() == set(splits)
    with pytest.raises(UserError, match=r"valid \('lines:valid.txt', now 'lines:../test.txt'\)"):
        prepare(make("../train", "../test.txt", "../valid.txt"))
