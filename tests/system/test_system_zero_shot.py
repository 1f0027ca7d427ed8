"""Perplexities of texts of other sources: through the command line, and taken up where they were stopped."""

import dataclasses
import gzip
import json
import pathlib

import numpy as np
import pytest
import tiny

from semdlm_jax import scores, zero_shot
from semdlm_jax.data.zero_shot import open_text
from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.evaluate import encode
from semdlm_jax.evaluation.parts import ZeroShotPart
from semdlm_jax.evaluation.store import Store
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.subject import Subject


@pytest.fixture(scope="module")
def subject(whole_run):
    trained = load_trained(whole_run)
    return Subject(trained, trained.rows("test"), name=str(whole_run), split="test", draws=2)


@pytest.fixture
def words(subject, tmp_path, monkeypatch):
    """Text that the vocabulary knows, in files of a folder of its own."""
    monkeypatch.chdir(tmp_path)
    prepared = scores.prepared_of(subject.trained)
    words = prepared.tokenizer.decode(prepared.splits["test"][:120])
    (tmp_path / "a.txt").write_text(words)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(words.encode()))
    (tmp_path / "lines.txt").write_text(words.replace(" ", "\n").replace("\n", "\n \n", 1))
    (tmp_path / "short.jsonl").write_text('{"text": "' + words.split()[0] + '"}\n{"text": ""}\n{"text": null}\n')
    return words


def evaluated(workdir, *options):
    result = tiny.command("evaluate", f"--workdir={workdir}", "--output=report.json", "--draws=2", *options)
    assert result.status == 0, result.err
    return json.loads(pathlib.Path("report.json").read_text())["sections"], result.out + result.err


def test_a_text_scores_as_it_does_alone(whole_run, words):
    """Beside others in a table, what --text says of the same text; and the protocol of each in words."""
    names = "text:a.txt", "text:b.txt.gz", "text:short.jsonl", "ptb:lines.txt", "lines:foreign.txt"
    pathlib.Path("foreign.txt").write_text("съешь же ещё\nэтих мягких булок")
    options = "--measures=likelihood,zero_shot", f"--corpora={','.join(names)}", "--text=a.txt"
    found, printed = evaluated(whole_run, *options)
    section, alone = found["zero_shot"], found["likelihood"]
    for name in names[:2]:
        assert section["details"][name] | alone["details"] == section["details"][name]
    for key, figure in alone["figures"].items():
        assert section["figures"][f"text:a.txt {key}"]["values"]["model"] == figure["values"]["model"]
    assert [section["details"][name]["documents"] for name in names] == [1, 1, 1, len(words.split()), 2]
    comparable = section["comparable"]["of figures"]
    assert comparable["text:a.txt nelbo"] == comparable["text:b.txt.gz nelbo"] != comparable["ptb:lines.txt nelbo"]
    assert comparable.keys() == section["figures"].keys()
    short = section["details"]["text:short.jsonl"]
    assert short["skipped"] == 2 and short["sequences"] == 1 and short["perplexity"] > 0
    assert (
        "each a row; 2 blank skipped; " in short["protocol"]
        and "0.00% of the text unknown; packed: " in short["protocol"]
    )
    ptb = section["details"]["ptb:lines.txt"]
    for said in (
        "a sentence, contractions joined",
        "wrapped: documents end to end in rows of 16",
        "MDLM drops",
        "1 blank",
    ):
        assert said in ptb["protocol"]
    share = section["details"]["lines:foreign.txt"]["unknown_share"]
    assert share > 0.3 and f"warning: lines:foreign.txt: {share:.1%} of the text is unknown" in printed
    for said in ("perplexities under different vocabularies do not compare", "text:short.jsonl", ptb["protocol"]):
        assert said in printed


def test_rows_are_of_the_protocol_that_is_asked_for(subject, words):
    padded = dataclasses.replace(subject, rows=scores.rows_of(subject.trained, subject.rows.tokens, "padded"))
    text = open_text("lines:lines.txt", documents=7)
    details = padded.score_texts([text]).details["lines:lines.txt"]
    tokens = encode("\n".join(words.split()[:7]), subject.tokenizer, by_line=True)
    alone, protocol = scores.score_likelihood(subject.trained, tokens, "padded", draws=2)
    assert details | dataclasses.asdict(alone) == details and protocol in details["protocol"]
    assert details["documents"] == 7 and "7 documents (at most the first 7), each a line" in details["protocol"]


def test_a_stopped_report_goes_on_with_the_next_text(subject, words, tmp_path, monkeypatch):
    """What is finished is not scored again, unless its file has changed."""
    kept = dataclasses.replace(subject, store=Store(tmp_path / "report.json"))
    texts, scored = [open_text(name) for name in ("text:a.txt", "lines:lines.txt")], []
    score_rows = scores.score_rows

    def stopping(trained, rows, **options):
        scored.append(len(rows.tokens))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score_rows(trained, rows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_rows", stopping)
        with pytest.raises(KeyboardInterrupt):
            kept.score_texts(texts)
        found = kept.score_texts(texts)
    assert len(scored) == 3 and scored[1] == scored[2]
    assert not [path for path in kept.store.folder.iterdir() if path.is_dir()]  # of tokens
    assert found == kept.score_texts(texts)
    (tmp_path / "a.txt").write_text(words * 2)
    part = ZeroShotPart("text:a.txt", "")
    assert kept.section("zero_shot", part, print)["details"] != found.details


def test_memory_holds_no_stream(subject, words, monkeypatch):
    """The tokens that are scored lie in a file."""
    seen = []
    monkeypatch.setattr(scores, "score_rows", lambda trained, rows, **options: seen.append(rows.tokens) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        subject.score_texts([open_text("text:a.txt")])
    assert isinstance(seen[0].base, np.memmap)


def test_a_full_disk_is_told(subject, words, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semdlm_jax.data.store.ArrayWriter.append", full)
    with pytest.raises(StorageError, match="semdlm_jax_.*: the disk is full"):
        subject.score_texts([open_text("text:a.txt")])


def test_refusals_come_before_work(subject, words):
    for part, wanted in (
        (ZeroShotPart(), "--corpora names no text"),
        (ZeroShotPart("text:a.txt, text:a.txt"), "names text:a.txt twice"),
        (ZeroShotPart("text:a.txt,text:gone.txt"), "no file matches"),
        (ZeroShotPart("text:a.txt", "valid"), "files that are named are scored whole"),
        (ZeroShotPart("text:a.txt,ptb"), "hf download ptb-text-only"),
    ):
        with pytest.raises(UserError, match=wanted):
            part.check(subject)
    assert zero_shot.columns_of(["text:x/a.txt", "text:y/a.txt", "lines:y/b.txt", "ptb"]) == {
        "text:x/a.txt": "text:x/a.txt",
        "text:y/a.txt": "text:y/a.txt",
        "lines:y/b.txt": "lines:b.txt",
        "ptb": "ptb",
    }
