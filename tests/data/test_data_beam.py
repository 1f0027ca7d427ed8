"""Text encoded by Apache Beam: the files of one process, byte for byte, and its sentences."""

import dataclasses
import gzip
import json
import os
import pathlib
import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest

from semdlm_jax import extras
from semdlm_jax.data import beam, corpora, files, packing
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.documents import Corpus
from semdlm_jax.data.given import load_splits
from semdlm_jax.data.prepare import main, prepare
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.data.tokenizers import TokenizerSpec
from semdlm_jax.errors import UserError

LOCAL = ["--runner=FnApiRunner"]  # in this process; DirectRunner would first look for another program


@pytest.fixture(scope="module")
def installed():
    return pytest.importorskip("apache_beam", reason="apache-beam is not installed: pip install '.[beam]'")


@pytest.fixture
def small(monkeypatch):
    """Parts, batches and tasks of some characters; no corpus of files is read into memory."""
    monkeypatch.setattr(files, "PART", 60)
    monkeypatch.setattr(packing, "BATCH_CHARACTERS", 200)
    monkeypatch.setattr(beam, "TASK", 3000)
    monkeypatch.setattr(corpora, "IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def backwards(monkeypatch):
    """The tasks are done here, without Beam, the last one first. Yields how many there were, of each corpus."""
    counts = []

    def run(pipeline, count, place):
        counts.append(count)
        for number in range(count, 0, -1):
            beam.encode_task(number, str(place), os.getcwd())
        return ""

    monkeypatch.setattr(beam, "make_pipeline", lambda options: SimpleNamespace(local_tempdir=os.devnull))
    monkeypatch.setattr(beam, "_run", run)
    return counts


def texts(count, seed=0):
    """Of one to 700 letters, in lines, the longest in several batches."""
    rng, letters = np.random.default_rng(seed), list("abcdefgh  .\n")
    return ["a" + "".join(rng.choice(letters, size)) for size in rng.integers(1, 700, count)]


def write_json(path, documents):
    with gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in documents)


def records(folder):
    """Split by documents; some of its rows have no text."""
    for number in range(6):
        write_json(folder / f"{number}.jsonl{'.gz' * (number % 2)}", [*texts(12, number), None, " "])
    pyarrow.parquet.write_table(pyarrow.table({"text": [*texts(12, 6), None]}), folder / "6.parquet")
    return load_corpus(f"text:{folder}")


def lines(folder):
    for number in range(4):
        (folder / f"{number}.txt").write_text("\n\n".join(texts(20, number)))
    return load_corpus(f"lines:{folder}")


def many_tiny_files(folder):
    """A document each, but for two blank ones."""
    for number, text in enumerate([*texts(58), "", " \n"]):
        (folder / f"{number}.txt").write_text(text)
    return load_corpus(f"text:{folder}")


def cut_files(folder):
    for number in range(3):
        (folder / f"{number}.txt").write_text("\n\n".join(texts(9, number)) if number != 1 else "")
    return load_corpus(f"text:{folder}")


def given_splits(folder):
    """Valid is drawn from train; test is one document."""
    for number in range(3):
        write_json(folder / f"{number}.jsonl", texts(30, number))
    (folder / "test.txt").write_text("\n".join(texts(6, 9)))
    return load_splits({"train": f"text:{folder}/*.jsonl", "valid": "", "test": f"text:{folder}/test.txt"})


def in_memory(folder):
    """Which only this process can read."""
    found = texts(60)
    return Corpus(tuple(found[:40]), tuple(found[40:59]), (found[59],), "toy", "letters")


CORPORA = (records, lines, many_tiny_files, cut_files, given_splits, in_memory)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def check_same(corpus, folder, tokenizer):
    for name, options in {"one": {}, "beam": {"beam_options": LOCAL}}.items():
        prepare(corpus, folder / name, 40, True, tokenizer=tokenizer, length=16, **options)
    one = contents(folder / "one")
    assert contents(folder / "beam") == one and {"train.npy", "test.starts.npy", "meta.json"} < one.keys()
    assert sorted(path.name for path in folder.iterdir()) == ["beam", "corpus", "one"]
    return json.loads(one["meta.json"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


@pytest.mark.parametrize("make", CORPORA)
def test_the_same_files_in_whatever_order_tasks_are_done(small, backwards, folder, make):
    meta = check_same(make(folder), folder.parent, "bytes")
    assert backwards[0] > 2 and min(meta["documents"].values()) > 0
    assert meta["skipped"]["rows"] == {records: 13, many_tiny_files: 2, cut_files: 1}.get(make, 0)


@pytest.mark.parametrize(
    "make, tokenizer", [(records, "sentencepiece"), (many_tiny_files, "bert-base-uncased"), (in_memory, "bytes")]
)
def test_the_same_files_of_beam(installed, small, folder, monkeypatch, make, tokenizer):
    counts, run = [], beam._run
    monkeypatch.setattr(beam, "_run", lambda *given: counts.append(given[1]) or run(*given))
    check_same(make(folder), folder.parent, tokenizer)
    assert counts[0] > 2


def test_relative_paths_are_those_of_the_first_process(small, folder, monkeypatch):
    """A worker runs elsewhere."""
    monkeypatch.chdir(folder.parent)
    corpus = many_tiny_files(pathlib.Path("corpus"))
    place = folder.parent / "place"
    (place / "failed").mkdir(parents=True)
    (place / "tokenizer").write_bytes(pickle.dumps(Moody()))
    task = next(beam._tasks(corpus))
    (place / "1.task").write_bytes(pickle.dumps(task))
    os.chdir("/")
    beam.encode_task(1, str(place), str(folder.parent))
    assert (place / "1.ids").exists() and not beam._failed(place)


@dataclasses.dataclass(frozen=True)
class Moody(OwnTokenizer):
    """Fails at one text, is interrupted at another."""

    vocabulary: tuple[str, ...] = tuple("abcdefgh .\n")

    def ids_of(self, text):
        if "bad" * 3 in text:
            raise ValueError("not this one")
        if "fade" * 3 in text:
            raise KeyboardInterrupt
        return [self.vocabulary.index(letter) for letter in text]

    def text_of(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@dataclasses.dataclass(frozen=True)
class Moods(TokenizerSpec):
    def build(self, text):
        return Moody()


def not_json(folder):
    (folder / "2.jsonl").write_text(json.dumps({"text": "a"}) + "\n{'text'\n")


def not_utf8(folder):
    (folder / "2.jsonl").write_bytes(json.dumps({"text": "a"}).encode() + b"\n\xff\n")


def not_a_string(folder):
    write_json(folder / "2.jsonl", ["a", 5])


def not_encoded(folder):
    write_json(folder / "2.jsonl", ["a", "bad" * 3])


@pytest.mark.parametrize("spoil", [not_json, not_utf8, not_a_string, not_encoded])
def test_the_first_bad_document_is_told_in_the_words_of_one_process(small, backwards, folder, spoil):
    corpus = records(folder)
    spoil(folder)
    (folder / "5.jsonl.gz").write_bytes(b"no gzip")  # which is done first here
    told = []
    for options in ({}, {"beam_options": LOCAL}):
        with pytest.raises(UserError) as error:
            prepare(corpus, folder.parent / "made", 0, True, tokenizer="test_data_beam:Moods", **options)
        told.append(str(error.value))
    assert told[0] == told[1] and ("2.jsonl, line 2: " in told[0] or "Moody failed in ids_of" in told[0])
    assert list(folder.parent.iterdir()) == [folder]


def test_a_bad_document_and_a_failure_of_beam(installed, small, folder, monkeypatch):
    corpus = records(folder)
    not_json(folder)
    with pytest.raises(UserError, match="2.jsonl, line 2: not JSON lines"):
        prepare(corpus, folder.parent / "made", 0, True, tokenizer="bytes", beam_options=LOCAL)
    monkeypatch.setattr(beam, "copy_of", lambda tokenizer: b"nothing")
    with pytest.raises(UserError, match="the pipeline of Beam has failed .invalid load key, .* mend that, or leave"):
        prepare(corpus, folder.parent / "made", 0, True, tokenizer="bytes", beam_options=LOCAL)
    assert not (folder.parent / "made").exists()


def test_a_stop_is_no_failure(installed, small, folder, capfd):
    corpus = records(folder)
    write_json(folder / "2.jsonl", ["a", "fade" * 3])
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, folder.parent / "made", 0, True, tokenizer="test_data_beam:Moods", beam_options=LOCAL)
    assert list(folder.parent.iterdir()) == [folder] and "Traceback" not in capfd.readouterr().err


def test_a_worker_without_the_folder(tmp_path):
    with pytest.raises(RuntimeError, match="has no .*missing, but all workers must share it"):
        beam.encode_task(1, f"{tmp_path}/missing", "/")


def test_what_comes_behind_a_failed_task_is_not_done(small, backwards, folder, monkeypatch):
    """And what comes before it is: its own failure would be the first."""
    corpus, done = records(folder), []
    not_json(folder)

    def run(pipeline, count, place):
        for number in (2, 3, 4, 1):  # the bad file is in task 2
            beam.encode_task(number, str(place), os.getcwd())
        done.extend(sorted(path.name for path in place.glob("*.ids")))
        return ""

    monkeypatch.setattr(beam, "_run", run)
    with pytest.raises(UserError, match="2.jsonl, line 2"):
        list(beam.beam_encoded(corpus, Moody(), folder.parent, LOCAL))
    assert done == ["1.ids"]


def test_a_file_for_which_others_wait_is_told(small, backwards, folder, monkeypatch):
    told = []
    corpus = lines(folder)
    for large, words in ((2**30, "4 tasks for the workers of Apache Beam"), (10, ".txt of 0 MiB is read by one")):
        monkeypatch.setattr(beam, "LARGE", large)
        list(beam.beam_encoded(corpus, Moody(), folder.parent, LOCAL, told.append))
        assert words in told[-1] and ("note" in told[-1]) == (large == 10)


def test_what_was_taken_is_removed(small, backwards, folder):
    """So that the disk need not hold the text and all ids together with the files that are made of them."""
    corpus, found = records(folder), []
    for batch, _ in beam.beam_encoded(corpus, Moody(), folder.parent, LOCAL):
        found.append((len(list(folder.parent.glob("beam-*/*.ids"))), len(batch)))
    left = [count for count, _ in found]
    assert left == sorted(left, reverse=True) and left[0] == backwards[0] and left[-1] == 1
    assert not list(folder.parent.glob("beam-*"))


@pytest.mark.parametrize(
    "given, told",
    {
        "--runner=Direkt": "Beam has no runner 'Direkt': did you mean 'DirectRunner'",
        "--runner=no.such.Runner": "no.such.Runner does not take them .No module named 'no'.",
        "--runer=DirectRunner": "Beam has no option --runer: did you mean '--runner'",
        "--runner=direct --help": "'--help' is no option of Beam",
        "DirectRunner": "'DirectRunner' is no option of Beam: give options as '--runner=",
        "--direct_num_workers=x": "argument --direct_num_workers: invalid int value: 'x': give another",
        "--runner='x": "cannot be read .No closing quotation.: give options as",
    }.items(),
)
def test_options_are_refused_before_any_work(installed, tmp_path, given, told):
    data = SimpleNamespace(corpus="text:nowhere", directory=tmp_path / "made")
    with pytest.raises(UserError, match=f"--beam_options.*{told}"):
        main(data, beam_options=given)


def test_what_excludes_beam(tmp_path, monkeypatch):
    data = SimpleNamespace(corpus="text:nowhere", directory=tmp_path / "made")
    with pytest.raises(UserError, match="--workers and --beam_options exclude one another"):
        main(data, workers=1, beam_options="--runner=direct")
    with pytest.raises(UserError, match="--check encodes nothing"):
        main(data, check=True, beam_options="--runner=direct")
    monkeypatch.setattr(extras, "is_installed", lambda module: False)
    with pytest.raises(UserError, match="--beam_options needs apache-beam, not installed here: .*semdlm_jax.beam"):
        main(data, beam_options="--runner=direct")


def test_a_finished_directory_needs_no_beam(small, backwards, folder):
    corpus, told = lines(folder), []
    for _ in range(2):
        prepare(corpus, folder.parent / "made", 0, True, told.append, tokenizer="bytes", beam_options=LOCAL)
    assert len(backwards) == 1 and "tasks for the workers of Apache Beam" in told[1]
    assert told[2] == f"{folder.parent}/made is prepared already: Beam has nothing to do"
