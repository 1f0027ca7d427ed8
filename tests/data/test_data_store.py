"""Preparation that is killed, doubled or out of disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from semdlm_jax.data import corpora, packing, store
from semdlm_jax.data import prepare as preparing
from semdlm_jax.errors import UserError

WORDS = "the union of these states is strong and free because its people have kept it so".split()


def text(i):
    return " ".join(np.random.default_rng(i).choice(WORDS, size=5 + i % 40))


@pytest.fixture
def source(tmp_path):
    """1,500 documents."""
    with open(tmp_path / "a.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text(i)}) + "\n" for i in range(1500))
    return tmp_path / "a.jsonl"


def prepare(source, directory, **changes):
    options = {"vocab_size": 0, "lowercase": True, "tokenizer": "bert-base-uncased", "length": 16, **changes}
    return preparing.prepare(corpora.load_corpus(f"text:{source}"), directory, **options)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("dtype, count", [(np.uint16, 0), (np.int64, 7), (np.uint16, 100_000)])
def test_a_grown_file_is_that_of_numpy(dtype, count, tmp_path):
    values = np.arange(count).astype(dtype)
    writer = store.ArrayWriter(tmp_path / "grown.npy", dtype)
    for part in np.array_split(values, 7):
        writer.append(part)
    writer.close()
    np.save(tmp_path / "whole.npy", values)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_batches_change_nothing(source, tmp_path, monkeypatch):
    whole = contents(prepare(source, tmp_path / "whole").directory)
    monkeypatch.setattr(packing, "BATCH_PARTS", 7)
    monkeypatch.setattr(corpora, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(corpora, "_many", streamed_like(corpora._many))
    assert contents(prepare(source, tmp_path / "parts").directory) == whole


def streamed_like(load):
    """The same documents in the same order, read anew in every pass."""

    def streamed(spec, paths, read):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corpora, "IN_MEMORY_BYTES", 10**9)
            corpus = load(spec, paths, read)
        return corpora.Streamed(corpus.read, corpus.name, corpus.origin, corpus.files)

    return streamed


def test_the_store_says_where_documents_start_and_what_padding_costs(source, tmp_path):
    prepared = prepare(source, tmp_path / "data")
    bos = prepared.tokenizer.bos_id
    for split, stream in prepared.splits.items():
        starts = prepared.starts(split)
        assert starts.dtype == np.int64 and len(starts) == prepared.meta["documents"][split] + 1
        np.testing.assert_array_equal(starts[:-1], np.flatnonzero(stream == bos))
        lengths = np.diff(starts)
        padding = prepared.meta["padding"]
        assert padding["tokens_lost"][split] == (lengths - np.minimum(lengths, 16)).sum()
        assert padding["documents_cut"][split] == (lengths > 16).sum()
    assert f"train {prepared.meta['padding']['tokens_lost']['train']:,} tokens of" in preparing.describe(
        prepared, padded=True
    )
    (prepared.directory / "train.starts.npy").unlink()  # as in directories prepared before it was stored
    np.testing.assert_array_equal(preparing.open_prepared(prepared.directory).starts("train"), prepared.starts("train"))


def test_unchanged_files_are_not_read_again(source, tmp_path, monkeypatch):
    prepare(source, tmp_path / "data")
    corpus = corpora.load_corpus(f"text:{source}")
    options = {"vocab_size": 0, "lowercase": True, "tokenizer": "bert-base-uncased"}
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "digest_of", None)  # would fail if called
        preparing.prepare(corpus, tmp_path / "data", **options)
    os.utime(source, (1, 1))  # touched: read again, and found to be the same
    preparing.prepare(corpus, tmp_path / "data", **options)
    source.write_text(source.read_text() + json.dumps({"text": "more"}) + "\n")
    with pytest.raises(UserError, match="corpus_sha256"):
        prepare(source, tmp_path / "data")


SCRIPT = """
import sys, time
from semdlm_jax.data import corpora, encoding, packing, prepare
source, directory, pause = sys.argv[1:]
packing.BATCH_PARTS = 100
count = encoding.count_tokens
def slow(*arguments):
    print("encoding", flush=True)
    time.sleep(float(pause))
    return count(*arguments)
encoding.count_tokens = slow
corpus = corpora.load_corpus("text:" + source)
options = {"tokenizer": "bert-base-uncased", "length": 16, "progress": lambda line: print(line, flush=True)}
prepare.prepare(corpus, directory, 0, True, **options)
print("done", flush=True)
"""


def start(source, directory, pause):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(source), str(directory), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_until(process, word):
    lines = []
    while not lines or word not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return lines


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_preparation_starts_anew_with_the_same_bytes(source, tmp_path, deadly):
    wanted = contents(prepare(source, tmp_path / "wanted").directory)
    place = tmp_path / "place"
    process = start(source, place / "data", pause=60)
    read_until(process, "encoding\n")
    process.send_signal(deadly)
    process.wait()
    process.stdout.close()
    assert not (place / "data").exists()
    assert contents(prepare(source, place / "data").directory) == wanted
    assert [path.name for path in place.iterdir()] == ["data"]  # nothing half-written is left


def test_two_at_once_wait_for_each_other(source, tmp_path):
    directory = tmp_path / "place" / "data"
    first = start(source, directory, pause=0.4)
    read_until(first, "encoding\n")
    second = start(source, directory, pause=0)
    told = read_until(second, "done")
    read_until(first, "done")
    assert first.wait() == second.wait() == 0
    first.stdout.close()
    second.stdout.close()
    assert any("another process is preparing" in line for line in told)
    assert not any("encoding" in line for line in told)  # it opens what the first has made
    assert [path.name for path in directory.parent.iterdir()] == ["data"]
    assert contents(directory) == contents(prepare(source, tmp_path / "alone").directory)


@pytest.mark.parametrize("place", ["write", "rename"])
@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")])
def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch, place, code, words):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((store.ArrayWriter, "append") if place == "write" else (os, "rename")), fail)
    (tmp_path / "place").mkdir()
    with pytest.raises(UserError, match=words) as error:
        prepare(source, tmp_path / "place" / "data")
    assert "\n" not in str(error.value) and list((tmp_path / "place").iterdir()) == []


def test_a_small_tmpfs(source, tmp_path):
    """A real full disk, where one can be had."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        with pytest.raises(UserError, match="the disk is full"):
            prepare(source, place / "data")
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_too_little_text_leaves_nothing(tmp_path):
    (tmp_path / "few").write_text("one\n")
    with pytest.raises(UserError, match="leaves no text for valid"):
        preparing.prepare(corpora.load_corpus(f"lines:{tmp_path}/few"), tmp_path / "data", 0, True)
    corpus = corpora.Streamed(lambda: iter([("train", ["one"]), ("test", ["two"])]), "lines:x", "two lines", ())
    with pytest.raises(UserError, match="leaves no text for valid"):
        preparing.prepare(corpus, tmp_path / "place" / "data", 0, True, tokenizer="bert-base-uncased")
    assert list((tmp_path / "place").iterdir()) == []


def test_bad_text_in_the_middle_leaves_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "IN_MEMORY_BYTES", 0)
    source.write_bytes(source.read_bytes() + b'{"text": "caf\xe9"}\n')
    with pytest.raises(UserError, match="line 1501: not UTF-8"):
        prepare(source, tmp_path / "place" / "data")
    assert list((tmp_path / "place").iterdir()) == []


MEMORY_SCRIPT = """
import gzip, json, pathlib, resource, sys, types
import numpy as np, pyarrow, pyarrow.parquet
from semdlm_jax.data import corpora, encoding, sample

corpora.IN_MEMORY_BYTES, sample.MAX_CHARACTERS = 0, 10**6
folder = pathlib.Path(sys.argv[1])
encode = lambda texts: [5 + np.frombuffer(text.encode()[::4], np.uint8).astype(np.int32) for text in texts]
ids = dict(zip(("pad_id", "unk_id", "bos_id", "eos_id", "newline_id"), range(5)))
tokenizer = types.SimpleNamespace(vocab_size=300, encode_batch=encode, keeps_space=False, **ids)


def write(name, megabytes):
    texts = [f"{i} " + 99 * "word " + "\\n" + 99 * "more " for i in range(1000 * megabytes)]
    if "parquet" in name:
        return pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / name)
    with (gzip.open if name.endswith("gz") else open)(folder / name, "wt") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\\n" if "json" in name else text + "\\n\\n")


def peak(spec):
    corpus = corpora.load_corpus(spec)
    sample.draw_sample((part.text for part in corpus.parts() if part.split == "train"), True)
    encoding.encode_corpus(corpus, tokenizer, folder, corpora.SPLITS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


for size in (3, 24):
    for name in ("text:a.txt", "lines:a.txt", "text:a.txt.gz", "text:a.jsonl", "text:a.parquet"):
        kind, _, file = name.partition(":")
        if sys.argv[2] == "write":
            write(f"{size}{file}", size)
        else:
            print(name, peak(f"{kind}:{folder}/{size}{file}"))
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Eight times the text, 24 MB of every kind, and the peak of a process hardly moves, learning included."""
    for job in ("write", "read"):
        command = [sys.executable, "-c", MEMORY_SCRIPT, tmp_path, job]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    peaks = [float(line.split()[1]) for line in run.stdout.splitlines()]
    assert len(peaks) == 10 and peaks[-1] - peaks[4] < 15, run.stdout  # MiB


def test_a_lock_is_released_with_its_process(tmp_path):
    with store.locked(tmp_path / "data"):
        assert (tmp_path / ".data.lock").exists()
    assert list(tmp_path.iterdir()) == []
    begun = time.monotonic()
    with store.locked(tmp_path / "data"):
        assert time.monotonic() - begun < 1
