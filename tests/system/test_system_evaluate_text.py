"""Evaluation of a text of one's own: `evaluate --text`."""

import json

import numpy as np
import pytest
import tiny

from semdlm_jax.evaluate import encode
from semdlm_jax.experiment.load import load_trained


@pytest.fixture(scope="module")
def trained(whole_run):
    return load_trained(whole_run)


def test_a_text_shorter_than_a_window(config_file, whole_run, trained, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("one two")
    report, shown = tiny.evaluated(whole_run, tmp_path / "report.json", f"--text={text}", "--samples=0", "--draws=3")
    found, tokens = report["sections"]["likelihood"], len(trained.corpus.prepared.tokenizer.encode("one two")) + 2
    assert tokens < 16 and found["details"]["tokens"] == tokens and found["details"]["sequences"] == 1
    assert np.isfinite(found["details"]["nelbo"])
    assert f"\ntext                        {text}: " in f"\n{shown}"
    assert report["split"] == report["text"] == str(text)
    assert report["sections"].keys() == {"likelihood"} and "3 t in [0.001" in found["protocol"]
    stages = [shown.index(f"{stage}\n") for stage in (f"reading {whole_run}", "encode 0/7", "NELBO 0/3")]
    assert stages == sorted(stages)  # each tells of itself before it begins


def test_few_rows_score_the_same_in_any_batch(whole_run, trained, tmp_path):
    """A letter of three rows, in a batch that is mostly filling, and a row at a time: one number."""
    words = trained.corpus.prepared.tokenizer.decode(trained.corpus.prepared.splits["test"][:60])
    text = tmp_path / "letter.txt"
    text.write_text(words)
    found = []
    for size in (64, 1):
        options = f"--text={text}", "--samples=0", "--draws=4", f"--batch_size={size}"
        likelihood, printed = tiny.scored(whole_run, tmp_path / "report.json", *options)
        assert f"noise of the draws          up to {likelihood['draw_error']:.4f} nats/token" in printed
        assert likelihood.pop("error_over") == "sequences" and likelihood["sequences"] > 2
        assert likelihood["unknown_share"] == 0 and likelihood.pop("protocol")
        found.append(likelihood)
        assert found[-1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)
    other, _ = tiny.scored(whole_run, tmp_path / "report.json", *options, "--seed=1")
    assert other["integral"] != pytest.approx(found[0]["integral"], rel=1e-4)


def test_an_error_is_told_only_where_it_is_known(whole_run, trained, tmp_path):
    """One row: the error of its draws; of one draw, none. JSON stays JSON."""
    text = tmp_path / "line.txt"
    text.write_text(trained.corpus.prepared.tokenizer.decode(trained.corpus.prepared.splits["test"][1:8]))
    for draws, over, shown in ((1, None, "± n/a"), (3, "draws", "over the draws of one row")):
        options = f"--text={text}", "--samples=0", f"--draws={draws}"
        likelihood, printed = tiny.scored(whole_run, tmp_path / "report.json", *options)
        assert likelihood["sequences"] == 1 and likelihood["error_over"] == over and shown in printed
        assert (
            (likelihood["standard_error"] is None) == (likelihood["perplexity_standard_error"] is None) == (draws == 1)
        )


def test_text_that_the_vocabulary_does_not_know_is_told(whole_run, tmp_path):
    text = tmp_path / "foreign.txt"
    text.write_text("съешь же ещё этих мягких булок")
    command = "evaluate", f"--workdir={whole_run}", f"--text={text}", "--samples=0", f"--output={tmp_path / 'r.json'}"
    result = tiny.command(*command)
    share = json.loads((tmp_path / "r.json").read_text())["sections"]["likelihood"]["details"]["unknown_share"]
    assert result.status == 0 and share > 0.3
    assert f"warning: {share:.1%} of the text is unknown" in result.err and f"{share:.3%} of the text" in result.out


def test_lines_end_at_line_breaks_alone(trained):
    """Not at form feeds and the like, which other tools count as ends too."""
    tokenizer = trained.corpus.prepared.tokenizer
    tokens = encode("ba\fbe\u2028bi\u0085bo\r\nbu\n\n de", tokenizer, by_line=True)
    assert np.count_nonzero(tokens == tokenizer.bos_id) == 3
    assert np.count_nonzero(encode("ba\nbe", tokenizer, by_line=False) == tokenizer.bos_id) == 1
