"""Text encoded as workers of Apache Beam encode it: the files of one process, byte for byte, and its sentences.

Beam itself runs in test_data_beam_pipeline.py.
"""

import os
import pathlib
import pickle
from types import SimpleNamespace

import pytest
from toy_corpora import (
    CORPORA,
    FINE,
    LOCAL,
    Moody,
    check_same,
    cut_files,
    lines,
    many_tiny_files,
    not_a_string,
    not_encoded,
    not_json,
    not_utf8,
    records,
)

from semdlm_jax import extras
from semdlm_jax.data import beam
from semdlm_jax.data.prepare import main, prepare
from semdlm_jax.errors import UserError


@pytest.fixture
def small(monkeypatch):
    for module, name, value in FINE:
        monkeypatch.setattr(module, name, value)
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


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


@pytest.mark.parametrize("make", CORPORA)
def test_the_same_files_in_whatever_order_tasks_are_done(small, backwards, folder, make):
    meta = check_same(make(folder), folder.parent, "bytes")
    assert backwards[0] > 2 and min(meta["documents"].values()) > 0
    assert meta["skipped"]["rows"] == {records: 13, many_tiny_files: 2, cut_files: 1}.get(make, 0)


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


@pytest.mark.parametrize("spoil", [not_json, not_utf8, not_a_string, not_encoded])
def test_the_first_bad_document_is_told_in_the_words_of_one_process(small, backwards, folder, spoil):
    corpus = records(folder)
    spoil(folder)
    (folder / "5.jsonl.gz").write_bytes(b"no gzip")  # which is done first here
    told = []
    for options in ({}, {"beam_options": LOCAL}):
        with pytest.raises(UserError) as error:
            prepare(corpus, folder.parent / "made", 0, True, tokenizer="toy_corpora:Moods", **options)
        told.append(str(error.value))
    assert told[0] == told[1] and ("2.jsonl, line 2: " in told[0] or "Moody failed in ids_of" in told[0])
    assert list(folder.parent.iterdir()) == [folder]


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
