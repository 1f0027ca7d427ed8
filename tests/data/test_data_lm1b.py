"""Datasets of tensorflow-datasets, without TensorFlow: made from a miniature of the benchmark's files, and read."""

import collections
import gzip
import io
import json
import subprocess
import sys
import tarfile
import time

import pytest

from semdlm_jax.data import corpora, lm1b, tfds_source
from semdlm_jax.data.documents import stamp_of
from semdlm_jax.data.zero_shot import open_text
from semdlm_jax.errors import UserError

SENTENCES = {
    f"{lm1b.ROOT}/training-monolingual.tokenized.shuffled/news.en-{i:05}-of-00100": [
        f"The state of shard {i} is naïve , and sentence {j} says so ." for j in range(150)
    ]
    for i in (1, 2, 99)
} | {
    f"{lm1b.ROOT}/heldout-monolingual.tokenized.shuffled/news.en.heldout-{i:05}-of-00050": [
        f"Held out {i} {j} ." for j in range(20)
    ]
    for i in (0, 1)
}


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def write_folder(tmp_path, sentences=SENTENCES):
    for name, lines in sentences.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))
    return tmp_path / "source"


def write_archive(tmp_path):
    path = tmp_path / "benchmark.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, lines in SENTENCES.items():
            data = "".join(line + "\n" for line in lines).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def of_role(role):
    return sorted(
        line for name, lines in SENTENCES.items() if ("heldout" in name) == (role == "test") for line in lines
    )


@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_the_benchmark_becomes_a_dataset_and_a_corpus(write, tmp_path, data_dir):
    source = write(tmp_path)
    directory = lm1b.prepare_lm1b(source)
    assert directory == data_dir / "lm1b" / "1.1.0" and (directory / "dataset_info.json").exists()
    assert [path.name for path in directory.parent.iterdir()] == ["1.1.0"]
    corpus = corpora.load_corpus("tfds:lm1b")
    pairs = list(corpus.documents())
    assert pairs == list(corpus.documents())
    by_split = collections.defaultdict(list)
    for split, text in pairs:
        by_split[split].append(text)
    assert sorted(by_split["test"]) == of_role("test")  # the benchmark's own
    assert sorted(by_split["train"] + by_split["valid"]) == of_role("train")
    assert 5 < len(by_split["valid"]) < 50 and by_split["train"] != sorted(by_split["train"])  # tfds shuffles
    assert len(corpus.files) >= 3 and stamp_of(corpus)
    for split in ("valid", "test"):
        assert [text for _, text in open_text("tfds:lm1b", split).corpus.documents()] == by_split[split]
    zero_shot = open_text("lm1b")  # of the hub there is none
    assert sorted(text for _, text in zero_shot.corpus.documents()) == [
        text.replace(" .", ".") for text in of_role("test")
    ]
    assert "spaces around marks" in zero_shot.document and "tensorflow-datasets" in zero_shot.corpus.origin
    begun = time.monotonic()
    assert lm1b.prepare_lm1b(source) == directory  # there already
    assert time.monotonic() - begun < 1


def test_folder_and_archive_give_the_same_order(tmp_path, data_dir, monkeypatch):
    lm1b.prepare_lm1b(write_folder(tmp_path))
    one = list(corpora.load_corpus("tfds:lm1b").documents())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    lm1b.prepare_lm1b(tmp_path / "source" / lm1b.ROOT)
    assert list(corpora.load_corpus("tfds:lm1b").documents()) == one


def test_the_command_needs_no_tensorflow(tmp_path, data_dir):
    source = write_folder(tmp_path)
    script = """
import runpy, sys
sys.argv = ["prepare", "--dataset=lm1b", sys.argv[1]]
try:
    runpy.run_module("semdlm_jax.data.prepare", run_name="__main__")
except SystemExit as exit:
    assert not exit.code
from semdlm_jax.data.corpora import load_corpus
print(sum(1 for _ in load_corpus("tfds:lm1b").documents()))
assert "tensorflow" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", script, f"--source={source}"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "is prepared" in run.stdout and run.stdout.split()[-1] == "490"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset=lm1b"], "--source is missing"),
        (["--dataset=c4", "--source=x"], "only lm1b is known"),
        (["--dataset=lm1b", "--source=/nowhere"], "no such file or directory"),
        ([], "--config is missing"),
    ],
)
def test_bad_commands_are_told(arguments, message):
    command = [sys.executable, "-m", "semdlm_jax.data.prepare", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and message in run.stderr


@pytest.mark.parametrize("name", ["lm1b", "wiki40b/en"])
def test_an_absent_dataset_is_told_at_once(name, data_dir):
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        corpora.load_corpus(f"tfds:{name}")
    assert time.monotonic() - begun < 1
    command = "semdlm_jax.data.prepare --dataset=lm1b --source=" if name == "lm1b" else "tfds build wiki40b/en"
    assert command in str(error.value) and str(data_dir / name) in str(error.value)


def test_bad_sources_leave_nothing(tmp_path, data_dir):
    (tmp_path / "empty").mkdir()
    whole = write_archive(tmp_path)
    (tmp_path / "half.tar.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "no.tar.gz").write_bytes(gzip.compress(b"no archive"))
    name = next(iter(SENTENCES))
    write_folder(tmp_path)
    (tmp_path / "source" / name).write_bytes(b"good\ncaf\xe9\n")
    for source, message in (
        ("empty", "holds no train files"),
        ("half.tar.gz", "cannot be read to its end"),
        ("no.tar.gz", "cannot be read to its end"),
        ("source", "news.en-00001-of-00100, line 2: not UTF-8"),
    ):
        with pytest.raises(UserError, match=message) as error:
            lm1b.prepare_lm1b(tmp_path / source)
        assert "\n" not in str(error.value)
        assert not data_dir.exists() or [path for path in data_dir.rglob("*") if path.is_file()] == []


def test_what_a_killed_preparation_left_is_cleared(tmp_path, data_dir):
    stale = data_dir / "lm1b" / "incomplete.ABC_1.1.0"
    stale.mkdir(parents=True)
    (stale / "x").write_text("half")
    directory = lm1b.prepare_lm1b(write_folder(tmp_path))
    assert [path.name for path in directory.parent.iterdir()] == ["1.1.0"]


def test_unsuitable_datasets_are_told(tmp_path, data_dir):
    directory = lm1b.prepare_lm1b(write_folder(tmp_path))
    info = json.loads((directory / "dataset_info.json").read_text())
    for changes, message in (
        ({"fileFormat": "tfrecord"}, "stored as tfrecord: convert it with tfds convert_format"),
        ({"splits": info["splits"][1:]}, "no train split but test"),
    ):
        (directory / "dataset_info.json").write_text(json.dumps(info | changes))
        with pytest.raises(UserError, match=message):
            corpora.load_corpus("tfds:lm1b")
    (directory / "dataset_info.json").write_text(json.dumps(info))
    assert tfds_source.find_dataset("lm1b:1.1.0") == tfds_source.find_dataset(str(directory)) == directory
