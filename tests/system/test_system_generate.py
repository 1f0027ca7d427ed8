"""Generation through its command line: what a seed fixes, what a prompt keeps, what the file holds."""

import json

import numpy as np
import pytest
import tiny

from semdlm_jax.data.prepare import open_prepared


@pytest.fixture(scope="module")
def tokenizer(config_file):
    return open_prepared(config_file.parent / "data").tokenizer


@pytest.fixture(scope="module")
def prompt(config_file):
    return " ".join((config_file.parent / "text.txt").read_text().split()[:2])


@pytest.fixture(scope="module")
def write(whole_run, prompt, tmp_path_factory):
    """A function (seed, options) -> (the rows of the file, what was printed) of five samples in batches of two."""

    def write(seed, *options):
        output = tmp_path_factory.mktemp("samples") / "samples.jsonl"
        counts = ["--num_samples=5", "--batch_size=2", "--steps=4", "--strides=2"]
        command = [f"--workdir={whole_run}", f"--prompt={prompt}", f"--seed={seed}", f"--output={output}"]
        result = tiny.command("generate", *command, *counts, *options)
        assert result.status == 0, result.err
        return [json.loads(line) for line in output.read_text().splitlines()], result.out

    return write


@pytest.fixture(scope="module")
def samples(write):
    return write(3)


def test_the_same_seed_gives_the_same_text(write, samples):
    assert write(3)[0] == samples[0]


def test_another_seed_gives_another_text(write, samples):
    rows, _ = write(4)
    assert all(row["text"] != other["text"] for row, other in zip(rows, samples[0]))


def test_samples_differ_from_one_another(samples):
    assert len({row["text"] for row in samples[0]}) == 5


def test_temperature_zero_differs_from_one(write, samples):
    assert write(3, "--temperature=0")[0] != samples[0]


def test_the_file_holds_every_sample_and_its_text(samples, tokenizer):
    rows, printed = samples
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    for row in rows:
        assert len(row["tokens"]) == 16 and tokenizer.decode(row["tokens"]) == row["text"]
        assert row["text"] in printed
    assert "5 samples written" in printed


def test_a_prompt_stays_and_no_special_is_written(samples, tokenizer, prompt):
    given = tokenizer.encode(prompt).tolist()
    assert 0 < len(given) < 16
    for row in samples[0]:
        assert row["tokens"][: len(given)] == given and row["text"].startswith(prompt)
        assert not np.isin(row["tokens"], tokenizer.special_ids).any()
