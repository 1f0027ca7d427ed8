"""Pipelines of Apache Beam, run by its own local runner: the files of one process, and how their failures are told.

They run in a process of their own, as `data.prepare` does: a pipeline would meet nothing of what thousands of other
tests leave behind in this one, such as the threads of JAX.
"""

import faulthandler
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
from toy_corpora import FINE, LOCAL, check_same, in_memory, many_tiny_files, not_json, records, write_json

from semdlm_jax.data import beam
from semdlm_jax.data.prepare import main, prepare
from semdlm_jax.errors import UserError

TOO_LONG = 150  # seconds after which that process says where it is, and ends

pytest.importorskip("apache_beam", reason="apache-beam is not installed: pip install '.[beam]'")


def watched(call, *given):
    faulthandler.dump_traceback_later(TOO_LONG, exit=True)
    try:
        return call(*given)
    finally:
        faulthandler.cancel_dump_traceback_later()


def begin():
    for module, name, value in FINE:
        setattr(module, name, value)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="module")
def apart():
    """Calls a function of this file in the other process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin) as pool:
        yield lambda *given: pool.submit(watched, *given).result()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def tasks_of_beam(make, folder, tokenizer):
    """How many there are; AssertionError: the files differ."""
    counts, run = [], beam._run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam, "_run", lambda *given: counts.append(given[1]) or run(*given))
        check_same(make(folder), folder.parent, tokenizer)
    return counts[0]


@pytest.mark.parametrize(
    "make, tokenizer", [(records, "sentencepiece"), (many_tiny_files, "bert-base-uncased"), (in_memory, "bytes")]
)
def test_the_same_files_of_beam(apart, folder, make, tokenizer):
    assert apart(tasks_of_beam, make, folder, tokenizer) > 2


def prepare_spoilt(folder, spoil, tokenizer, copied=None):
    """Of records that are spoilt after they were looked at. copied: is taken for the pickled tokenizer."""
    corpus = records(folder)
    spoil(folder)
    with pytest.MonkeyPatch.context() as patch:
        if copied is not None:
            patch.setattr(beam, "copy_of", lambda tokenizer: copied)
        prepare(corpus, folder.parent / "made", 0, True, tokenizer=tokenizer, beam_options=LOCAL)


@pytest.mark.parametrize(
    "copied, told",
    {
        None: "2.jsonl, line 2: not JSON lines",
        b"nothing": "the pipeline of Beam has failed .invalid load key, .* mend that, or leave",
    }.items(),
)
def test_a_bad_document_and_a_failure_of_beam(apart, folder, copied, told):
    with pytest.raises(UserError, match=told):
        apart(prepare_spoilt, folder, not_json, "bytes", copied)
    assert not (folder.parent / "made").exists()


def fade(folder):
    write_json(folder / "2.jsonl", ["a", "fade" * 3])


def words_of_a_stop(folder):
    """What goes to standard error."""
    before = os.dup(2)
    with open(folder.parent / "words", "w") as words:
        os.dup2(words.fileno(), 2)
        try:
            with pytest.raises(KeyboardInterrupt):
                prepare_spoilt(folder, fade, "toy_corpora:Moods")
        finally:
            os.dup2(before, 2)
            os.close(before)
    return (folder.parent / "words").read_text()


def test_a_stop_is_no_failure(apart, folder):
    assert "Traceback" not in apart(words_of_a_stop, folder)
    assert {path.name for path in folder.parent.iterdir()} == {"corpus", "words"}


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
def test_options_are_refused_before_any_work(tmp_path, given, told):
    data = SimpleNamespace(corpus="text:nowhere", directory=tmp_path / "made")
    with pytest.raises(UserError, match=f"--beam_options.*{told}"):
        main(data, beam_options=given)
