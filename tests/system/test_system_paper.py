"""The paper's configurations on miniatures of their corpora, through the commands of their headers."""

import json
import random

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny

from semdlm_jax.data import lm1b
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.data.wordpiece import SPECIAL_PIECES

WORDS = "the union of these states is strong and free because its people have kept it so for many years now".split()


def sentences(count, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 30))).capitalize() + " ." for _ in range(count)]


def write_lm1b(folder):
    for name, count in (
        ("training-monolingual.tokenized.shuffled/news.en-00001-of-00100", 900),
        ("heldout-monolingual.tokenized.shuffled/news.en.heldout-00000-of-00050", 60),
    ):
        path = folder / lm1b.ROOT / name
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(sentences(count, seed=count)) + "\n")
    result = tiny.command("data.prepare", "--dataset=lm1b", f"--source={folder}")
    assert result.status == 0 and "is prepared" in result.out, result.err
    return []


def write_openwebtext(folder):
    pages = [" ".join(sentences(12, seed)) for seed in range(120)]
    pyarrow.parquet.write_table(pyarrow.table({"text": pages}), folder / "part.parquet")
    return [f"data.corpus=text:{folder}/*.parquet"]


SMALL = """network.width=16 network.layers=1 network.heads=2 network.condition_width=8 kernel.k_max=2
semantics.dimensions=8 semantics.neighbors=4 training.steps=1 training.batch_size=4 training.microbatches=1
optimizer.warmup_steps=0 evaluation.batch_size=4 evaluation.valid_batches=1 evaluation.sample_steps=2""".split()


def small_vocabulary(path):
    """BERT's pieces that the miniatures need: with all of them, what tests compile unoptimized would take minutes."""
    pieces = [*SPECIAL_PIECES, ".", *WORDS]
    path.write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    return f"data.tokenizer=wordpiece:{path}"


@pytest.mark.parametrize("name, write", [("lm1b", write_lm1b), ("openwebtext", write_openwebtext)])
def test_from_text_to_samples(name, write, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "source").mkdir()
    options = [*write(tmp_path / "source"), *SMALL, f"data.directory={tmp_path}/data", "data.length=16"]
    options = [f"--config=configs/{name}.py", *(f"--config.{option}" for option in options)]
    # The pieces of the configuration itself first.
    assert tiny.command("data.prepare", *options).status == 0
    prepared = open_prepared(tmp_path / "data")
    assert prepared.tokenizer.vocab_size == 30522 and prepared.meta["settings"]["tokenizer"] == "bert-base-uncased"
    if name == "lm1b":  # the benchmark's own held-out sentences
        assert prepared.meta["documents"]["test"] == 60
    assert prepared.tokenizer.unk_id not in prepared.splits["train"]
    options += [f"--config.{small_vocabulary(tmp_path / 'vocab.txt')}", f"--config.data.directory={tmp_path}/small"]
    workdir = tmp_path / "run"
    for module, arguments in (
        ("data.prepare", options),
        ("semantics.build", options),
        ("train", [*options, f"--workdir={workdir}"]),
        ("evaluate", [f"--workdir={workdir}", "--samples=0", f"--output={tmp_path}/report.json"]),
        ("generate", [f"--workdir={workdir}", "--num_samples=1", "--steps=2", f"--output={tmp_path}/out.jsonl"]),
    ):
        result = tiny.command(module, *arguments)
        assert result.status == 0, (module, result.err)
    report = json.loads((tmp_path / "report.json").read_text())
    assert np.isfinite(report["sections"]["likelihood"]["details"]["nelbo"])
    assert report["sections"]["likelihood"]["protocol"].startswith("wrapped: ")
    assert len(json.loads((tmp_path / "out.jsonl").read_text())["tokens"]) == 16


def test_an_unprepared_corpus_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    result = tiny.command("data.prepare", "--config=configs/lm1b.py", f"--config.data.directory={tmp_path}/data")
    tiny.assert_refused(result, "python -m semdlm_jax.data.prepare --dataset=lm1b --source=")
    options = [f"--workdir={tmp_path}/run", "--config.data.directory=data/nothing-here"]
    result = tiny.command("train", "--config=configs/lm1b.py", *options)
    tiny.assert_refused(result, "data/nothing-here", "run python -m semdlm_jax.data.prepare --config=")
