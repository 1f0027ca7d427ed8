"""Evaluation through its command line: a report that adds up, on a split and on a text file."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest
import tiny

from semdlm_jax.data.packing import unpack
from semdlm_jax.errors import UserError
from semdlm_jax.evaluate import encode
from semdlm_jax.experiment.build import build_init
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.scores import score_likelihood


@pytest.fixture(scope="module")
def trained(whole_run):
    return load_trained(whole_run)


def evaluated(workdir, output, *options):
    result = tiny.command("evaluate", f"--workdir={workdir}", f"--output={output}", *options)
    assert result.status == 0, result.err
    return json.loads(output.read_text()), result.out + result.err


def test_the_report_of_a_split(whole_run, trained, tmp_path):
    report, printed = evaluated(whole_run, tmp_path / "report.json")
    tokens = trained.corpus.prepared.splits["test"]
    likelihood = report["likelihood"]
    assert report["split"] == "test" and likelihood["tokens"] == len(tokens)
    assert likelihood["sequences"] == math.ceil(len(tokens) / 16)
    terms = sum(likelihood[name] for name in ("integral", "prior", "reconstruction"))
    assert likelihood["nelbo"] == pytest.approx(terms) and likelihood["standard_error"] > 0
    assert report["perplexity"] == pytest.approx(math.exp(likelihood["nelbo"]))
    size = sum(len(text.encode()) for text in unpack(tokens, trained.corpus.prepared.tokenizer))
    assert report["bits_per_byte"] == pytest.approx(likelihood["nelbo"] * len(tokens) / size / math.log(2))
    assert f"{report['bits_per_byte']:.4f}" in printed and report["scored_bytes"] == size
    assert report["unigram_entropy"] == pytest.approx(trained.corpus.prepared.unigram_entropy("test"))
    assert report["unigram_cross_entropy"] == pytest.approx(trained.corpus.prepared.unigram_cross_entropy("test"))
    assert f"unigram model of train      {report['unigram_cross_entropy']:.4f}" in printed
    for words in ("windows of 16 tokens", "EMA weights, step 12"):
        assert words in report["protocol"]
    samples = report["samples"]
    assert samples.keys() == {"entropy_nats", "entropy_standard_error", "basin_index", "bigrams_in_train", "distinct_2"}
    assert samples["basin_index"]["heldout"] == 1
    assert samples["bigrams_in_train"]["heldout"] > samples["bigrams_in_train"]["shuffled"]
    for row in samples.values():
        assert {"generated", "heldout"} <= row.keys() and all(np.isfinite(list(row.values())))
    for shown in (f"{likelihood['nelbo']:.4f}", f"{report['perplexity']:.2f}", report["samples_protocol"]):
        assert shown in printed
    for measure in ("basin index: ", "shuffled: ", "distinct: "):
        assert f"\n{measure}" in printed


def test_a_text_shorter_than_a_window(config_file, whole_run, trained, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("one two")
    report, shown = evaluated(whole_run, tmp_path / "report.json", f"--text={text}", "--samples=0", "--draws=3")
    tokens = len(trained.corpus.prepared.tokenizer.encode("one two")) + 2
    assert tokens < 16 and report["likelihood"]["tokens"] == tokens and report["likelihood"]["sequences"] == 1
    assert np.isfinite(report["likelihood"]["nelbo"])
    assert f"\ntext                        {text}: " in f"\n{shown}"
    assert report["split"] == report["text"] == str(text)
    assert report["samples"] == {} and "3 t in [0.001" in report["protocol"]
    stages = [shown.index(f"{stage}\n") for stage in (f"reading {whole_run}", "encode 0/7", "NELBO 0/3")]
    assert stages == sorted(stages)  # each tells of itself before it begins


def test_few_rows_score_the_same_in_any_batch(whole_run, trained, tmp_path):
    """A letter of three rows, alone, in a batch that is mostly filling, and a row at a time: one number."""
    words = trained.corpus.prepared.tokenizer.decode(trained.corpus.prepared.splits["test"][:60])
    text = tmp_path / "letter.txt"
    text.write_text(words)
    found = []
    for size in (3, 64, 1):
        options = f"--text={text}", "--samples=0", "--draws=4", f"--batch_size={size}"
        report, printed = evaluated(whole_run, tmp_path / "report.json", *options)
        found.append(report["likelihood"])
        assert found[-1].pop("error_over") == "sequences" and found[-1]["sequences"] > 2
        assert found[-1] == pytest.approx(found[0], rel=1e-4, abs=1e-6) and report["unknown_share"] == 0
    other, _ = evaluated(whole_run, tmp_path / "report.json", *options, "--seed=1")
    assert other["seed"] == 1 and other["likelihood"]["integral"] != pytest.approx(found[0]["integral"], rel=1e-4)


def test_an_error_is_told_only_where_it_is_known(whole_run, trained, tmp_path):
    """One row: the error of its draws; of one draw, none. JSON stays JSON."""
    text = tmp_path / "line.txt"
    text.write_text(trained.corpus.prepared.tokenizer.decode(trained.corpus.prepared.splits["test"][1:8]))
    for draws, over, shown in ((1, None, "± n/a"), (3, "draws", "over the draws of one row")):
        report, printed = evaluated(
            whole_run, tmp_path / "report.json", f"--text={text}", "--samples=0", f"--draws={draws}"
        )
        likelihood = report["likelihood"]
        assert likelihood["sequences"] == 1 and likelihood["error_over"] == over and shown in printed
        assert (likelihood["standard_error"] is None) == (report["perplexity_standard_error"] is None) == (draws == 1)


def test_text_that_the_vocabulary_does_not_know_is_told(whole_run, tmp_path):
    text = tmp_path / "foreign.txt"
    text.write_text("съешь же ещё этих мягких булок")
    command = "evaluate", f"--workdir={whole_run}", f"--text={text}", "--samples=0", f"--output={tmp_path / 'r.json'}"
    result = tiny.command(*command)
    share = json.loads((tmp_path / "r.json").read_text())["unknown_share"]
    assert result.status == 0 and share > 0.3
    assert f"warning: {share:.1%} of the text is unknown" in result.err and f"{share:.3%} of the text" in result.out


def test_lines_end_at_line_breaks_alone(trained):
    """Not at form feeds and the like, which other tools count as ends too."""
    tokenizer = trained.corpus.prepared.tokenizer
    tokens = encode("ba\fbe\u2028bi\u0085bo\r\nbu\n\n de", tokenizer, by_line=True)
    assert np.count_nonzero(tokens == tokenizer.bos_id) == 3
    assert np.count_nonzero(encode("ba\nbe", tokenizer, by_line=False) == tokenizer.bos_id) == 1


def test_a_likelihood_that_is_no_number_is_told(trained):
    broken = dataclasses.replace(trained, params=jax.tree.map(lambda x: x * np.nan, trained.params))
    with pytest.raises(UserError, match="no finite likelihood .*another checkpoint"):
        score_likelihood(broken, trained.corpus.prepared.splits["test"][:40])


def test_training_lowers_the_bound(config_file, tmp_path):
    """The same times and corruptions, before and after."""
    options = ["kernel.name=absorbing", "objective.name=nelbo", "warmup.steps=0", "network.dropout=0.0"]
    options += ["training.steps=120", "training.log_every=200"]
    command = [f"--config={config_file}", f"--workdir={tmp_path}", *(f"--config.{option}" for option in options)]
    assert tiny.command("train", *command).status == 0
    trained = load_trained(tmp_path)
    params = jax.jit(build_init(trained.denoiser, trained.corpus))(jax.random.key(0))
    params = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, trained.params)
    tokens = trained.corpus.prepared.splits["valid"]
    before, _ = score_likelihood(dataclasses.replace(trained, params=params), tokens)
    after, _ = score_likelihood(trained, tokens)
    # Untrained it knows the train unigram; each word of the text tells the next.
    unigram = trained.corpus.prepared.unigram_cross_entropy("valid")
    assert abs(before.nelbo - unigram) < 4 * before.standard_error
    assert after.nelbo < before.nelbo - 0.3


# Keys that came later, by their sections.
LATER = {
    "evaluation": "draws t_min t_max",
    "data": "protocol tokenizer",
    "network": "causal",
    "objective": "timesteps ce_weight gidd_weights y_samples",
    "kernel": "schedule prior prior_exponent min_count uniform_share hybrid_gamma tau_min tau_scale",
}


def test_a_run_recorded_before_some_keys_were_there(whole_run, tmp_path):
    """It is what it was: the same bound over the same times, and the same samples."""
    old = tmp_path / "run"
    shutil.copytree(whole_run, old)
    config = json.loads((old / "config.json").read_text())
    for section, keys in LATER.items():
        for key in keys.split():
            del config[section][key]
    (old / "config.json").write_text(json.dumps(config))
    (report, _), (wanted, _) = (evaluated(run, tmp_path / "report.json", "--samples=2") for run in (old, whole_run))
    assert "1 t in [0.001, 0.99999]" in report["protocol"]
    assert report | {"workdir": ""} == wanted | {"workdir": ""}


def test_the_times_of_the_bound(config_file, whole_run, tmp_path):
    """They are the evaluation's own, and may change between two scores of one run."""
    moved = tmp_path / "run"
    shutil.copytree(whole_run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["evaluation"].update(t_min=0.25, t_max=1.0)
    (moved / "config.json").write_text(json.dumps(config))
    report, _ = evaluated(moved, tmp_path / "report.json", "--samples=0")
    wanted, _ = evaluated(whole_run, tmp_path / "report.json", "--samples=0")
    assert "t in [0.25, 1]" in report["protocol"] and np.isfinite(report["likelihood"]["nelbo"])
    # A quarter of the tokens' noise is left to the reconstruction.
    assert report["likelihood"]["reconstruction"] > 3 * wanted["likelihood"]["reconstruction"]
