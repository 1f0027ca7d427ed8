"""Options of a report that exclude one another, and what its sections depend on."""

import dataclasses
import json

import jax
import pytest
import tiny

from semdlm_jax.errors import UserError
from semdlm_jax.evaluate import columns_beside
from semdlm_jax.evaluation.parts import GenerationPart
from semdlm_jax.evaluation.report import SCHEMA, Figure, Section, around
from semdlm_jax.evaluation.store import Store
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.report.table import section_lines
from semdlm_jax.subject import Subject


@pytest.fixture(scope="module")
def trained(whole_run):
    return load_trained(whole_run)


def test_flags_that_are_no_use(whole_run, tmp_path):
    """They are not read, name what cannot be, or would replace what no flag names."""
    letter, fields, page = (tmp_path / name for name in ("letter.txt", "fields.jsonl", "report.html"))
    letter.write_text("a letter")
    fields.write_text('{"content": "a letter"}\n')
    page.write_text("<title>mine</title>")
    for flags, words in (
        (["--measures=frontier", "--frontier=preset:1"], "'preset:1' is no number: give --frontier_preset"),
        (["--measures=frontier", "--frontier=self:1"], "unknown sampling setting 'self'"),
        (["--measures=frontier", "--frontier_at=strides:1|2"], "has strides where it takes several values"),
        (["--measures=frontier", "--frontier_at=steps:2", "--frontier=steps:2"], "has steps where it takes several"),
        (["--measures=frontier", "--samples=0"], "--samples=0 leaves nothing to measure"),
        (["--measures=frontier", f"--beside={whole_run}"], "--beside is read by generation: name such in --measures"),
        (["--measures=importance", "--draws=2"], "--draws is read by likelihood, curves, zero_shot"),
        (["--measures=likelihood", "--scorer=hf:gpt2"], "--scorer is read by generation, frontier"),
        (
            ["--measures=zero_shot", f"--corpora=text:{fields}"],
            "which has content: name the field of the documents as --c",
        ),
        (["--measures=generation", f"--text={letter}"], "--text is read by likelihood, importance, unmasking, curves"),
        (["--measures=importance", "--copies=0"], "copies = '0' holds 0, which is not possible"),
        ([f"--output={page.with_suffix('.json')}"], "where the page of the report goes, is another file"),
        (["--samples=0", "--embedder=minilm"], "--embedder is read by generation, frontier"),
    ):
        tiny.assert_refused(tiny.command("evaluate", f"--workdir={whole_run}", *flags), words)


def test_samples_depend_on_the_held_out_text_and_on_the_runs_beside(trained, tmp_path):
    """A text that is scored says nothing of the split, and the name of a run nothing of its weights."""
    other = dataclasses.replace(trained, params=jax.tree.map(lambda leaf: leaf * 5, trained.params))

    def report(**options):
        given = {"split": "test", "samples": 2, "measures": ["entropy_nats"], "beside": {"run": trained}, **options}
        subject = Subject(trained, trained.rows("test"), name="run", store=Store(tmp_path / "report.json"), **given)
        section = subject.section("generation", GenerationPart(), lambda line: None)
        (tmp_path / "report.json").write_text(json.dumps({"schema": SCHEMA, "sections": {"generation": section}}))
        return {name: value["value"] for name, value in section["figures"]["entropy_nats"]["values"].items()}

    first, by_split, by_run = report(), report(split="train"), report(beside={"run": other})
    assert first["heldout"] != by_split["heldout"] and first["run"] == by_split["run"] != by_run["run"]
    assert first == report()


def test_columns_beside():
    for places, words in (
        (["a/run", "b/run/"], "a/run and b/run/ are both called run"),
        (["a/unigram"], "unigram is a column of every report"),
    ):
        with pytest.raises(UserError, match=words):
            columns_beside(places)
    assert columns_beside(["a/run/", "b/other"]) == {"run": "a/run/", "other": "b/other"}


def test_long_names_of_columns_stand_apart():
    values = {"a name that is longer than a cell": around(1.0, None), "another": around(2.0, None)}
    head = section_lines(Section("Title", "protocol", {"one": Figure("one", values)}))[2]
    assert head.split("  ")[-1].strip() == "another" and "  a name that is longer than a cell  " in head
