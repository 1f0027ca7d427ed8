"""A run in Python gives what the commands give."""

import json

import numpy as np
import pytest
import tiny

import semdlm_jax as sd
from semdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def model(whole_run):
    return sd.load(whole_run)


@pytest.fixture(scope="module")
def text(config_file):
    return " ".join((config_file.parent / "text.txt").read_text().split()[:40])


def test_text(whole_run, model, text, tmp_path, capsys):
    prompt = " ".join(text.split()[:2])
    counts = ["--num_samples=3", "--steps=4", "--seed=5", "--temperature=0.7", f"--output={tmp_path}/samples.jsonl"]
    result = tiny.command("generate", f"--workdir={whole_run}", f"--prompt={prompt}", *counts)
    assert result.status == 0, result.err
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    note = "note: given tokens are read as noisy text of the current time"
    assert result.err.count(note) == 1
    found = model.generate(prompt, num_samples=3, steps=4, seed=5, temperature=0.7)
    model.generate(prompt, num_samples=3, steps=4, seed=5, temperature=0.7)
    assert capsys.readouterr().err.count(note) == 1  # of a model once
    assert found.text == [row["text"] for row in rows] and found.tokens.tolist() == [row["tokens"] for row in rows]
    with pytest.raises(UserError, match="exclude one another"):
        model.generate(prompt, infill="[__]")
    with pytest.raises(UserError, match="prompt is one text, a str, not list"):
        model.generate([prompt])


def test_scores(whole_run, model, text, tmp_path):
    (tmp_path / "text.txt").write_text(text)
    where = [f"--text={tmp_path}/text.txt", f"--output={tmp_path}/report.json"]
    result = tiny.command("evaluate", f"--workdir={whole_run}", "--samples=0", "--draws=2", "--seed=1", *where)
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "report.json").read_text())
    found = model.nelbo(text, draws=2, seed=1)
    scored = report["sections"]["likelihood"]["details"]
    assert (found.nelbo, found.tokens) == pytest.approx((scored["nelbo"], scored["tokens"]))
    for wrong, words in (
        ([], "no text to score"),
        (3, "a text to score is a str, not int"),
        ([b"x"], "not bytes"),
        (np.zeros((2, 4), int), "not ndarray"),
    ):
        with pytest.raises(UserError, match=words):
            model.nelbo(wrong)
    with pytest.raises(UserError, match="draws = 0"):
        model.nelbo(text, draws=0)


def test_what_it_is_made_of(model):
    assert repr(model) == "<Model: semdlm_plus, packed rows of 16, step 12>"
    assert model.step == 12 and model.config.network.width == 32
    assert np.shape(model.params["embed"]["embedding"]) == (model.tokenizer.vocab_size, 32)
    kernel = sd.make_kernel("absorbing", sd.Vocabulary(5, 4))
    assert "absorbing" in sd.KERNELS and kernel.alpha(np.float32(0.25)) == pytest.approx(0.75)
    assert {name for name in dir(sd) if not name.startswith("__")} == set(sd.__all__) and not hasattr(
        sd, "no_such_name"
    )
    with pytest.raises(UserError, match="3 is no name or folder of a model"):
        sd.load(3)
