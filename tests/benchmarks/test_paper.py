"""The paper's tables: what is measured again and what is not, two commands at once, and what the pages say."""

import itertools
import json
import math
import time
import types

import numpy as np
import pytest

from benchmarks.bakeoff import Entry
from benchmarks.paper import basins, cells, dispersion, likelihoods, penalties, rates, sampling, systems
from benchmarks.paper.cells import Cell, Results, by_run, work_off
from benchmarks.paper.likelihoods import kernel_of
from benchmarks.paper.scales import SCALES
from semdlm_jax.errors import UserError

TOY = SCALES["toy"]


def place(entry, seed):
    """A stand-in for a run: measures get it and nothing is trained."""
    return types.SimpleNamespace(entry=entry, seed=seed, workdir=f"{entry.text}-{seed}", train=lambda: None)


@pytest.fixture
def measured():
    """The keys of the cells that were measured, in order."""
    return []


def cell(measured, key, system="mdlm", seed=0, part="table2", **values):
    def measure(run=None):
        measured.append(key)
        return {"value": 1.0, **values}

    return Cell(part, key, None if system is None else Entry.parse(system), None if system is None else seed, measure)


def test_all_cells_of_a_run_are_measured_together_and_the_first_seed_first(tmp_path, measured):
    wanted = [
        cell(measured, "a1", seed=1),
        cell(measured, "a0"),
        cell(measured, "b0", "udlm"),
        cell(measured, "a0 text", part="table3"),
        cell(measured, "alone", None),
    ]
    assert work_off(wanted, Results(tmp_path), place, math.inf, tell=lambda line: None) == []
    assert measured == ["alone", "a0", "a0 text", "b0", "a1"]
    assert len(by_run(wanted)) == 4


def test_a_command_that_is_started_again_goes_on(tmp_path, measured):
    results, wanted = Results(tmp_path), [cell(measured, "a"), cell(measured, "b", "udlm")]
    told = []
    assert work_off(wanted, results, place, 0.0, told.append) == wanted and not measured  # no time
    assert told == ["2 cells not begun, for the time was over: start again"]
    work_off(wanted[:1], results, place, math.inf, tell=lambda line: None)
    with (tmp_path / "table2.jsonl").open("a") as file:
        file.write('{"key": "b", "val')  # cut off by a kill
    assert [missing.key for missing in results.missing(wanted)] == ["b"]
    assert work_off(wanted, results, place, math.inf, tell=lambda line: None) == []
    assert measured == ["a", "b"] and set(results.of("table2")) == {"a", "b"}


def test_a_run_that_another_command_is_at_is_left_to_it(tmp_path, measured):
    results, wanted = Results(tmp_path), [cell(measured, "a"), cell(measured, "b", "udlm")]
    with cells._alone(tmp_path, place(wanted[0].entry, 0).workdir) as ours:
        assert ours
        told = []
        assert work_off(wanted, results, place, math.inf, told.append) == wanted[:1]
    assert measured == ["b"]
    assert told[-1] == "1 cell left to another command, which was at the same run and measures it"


def test_a_place_where_no_line_can_be_written_is_refused(tmp_path):
    Results(tmp_path / "new").check_writable(["rates"])
    (tmp_path / "file").touch()
    (tmp_path / "rates.jsonl").mkdir()
    for folder in ("file", "file/below", "."):
        with pytest.raises(UserError, match="choose another|give the path of a file"):
            Results(tmp_path / folder).check_writable(["rates"])


def test_files_of_a_cell_stand_beside_its_line(tmp_path, measured):
    work_off(
        [cell(measured, "a", files={"page.html": "text"})], Results(tmp_path), place, math.inf, tell=lambda line: None
    )
    assert (tmp_path / "page.html").read_text() == "text"
    line = json.loads((tmp_path / "table2.jsonl").read_text())
    assert "files" not in line and line["system"] == "mdlm" and line["seed"] == 0


def test_every_cell_has_a_name_of_its_own():
    for name, scale in SCALES.items():
        for part in (likelihoods, penalties, dispersion, rates):
            keys = [cell.key for cell in part.cells(scale, [0, 1])]
            assert len(set(keys)) == len(keys), name


def test_noise_that_looks_like_text_begins_on_masked_text_when_tuned():
    scale = SCALES["cpu"]
    assert dict(systems.tuned("semdlm_plus", scale).changes) == {"warmup.steps": "250"}
    assert systems.entries(scale)["SemDLM+", systems.AUTHORS].changes == ()
    assert dict(systems.tuned("udlm", scale).changes) == {"objective.name": "denoising", "warmup.steps": "250"}
    assert systems.entries(scale)["SEDD, masks", systems.TUNED].changes == ()


def likelihood_line(nelbo):
    terms = {"nelbo": nelbo, "standard_error": 0.01, "prior": 0.1, "reconstruction": 0.2}
    return {"likelihood": terms, "protocol": "continuous-time bound", "machine": "a machine"}


def test_the_table_of_likelihoods_has_means_over_seeds_and_no_exact_one_among_bounds():
    scale = SCALES["cpu"]
    lines = {
        "mdlm, seed 0, bound": likelihood_line(4.0),
        "mdlm, seed 1, bound": likelihood_line(4.2),
        "mdlm, seed 0, paths": {"nats": {"1": 4.1, "10": 3.9}},
        "mdlm, slack": {"slack": 0.02},
        "ar, seed 0, bound": {**likelihood_line(3.0), "protocol": "exact"},
    }
    page = likelihoods.page(scale, [0, 1], lines)
    # The error of the mean of two seeds, 0.1, is larger than that over windows.
    row = f"| MDLM | its authors' | 2 | 4.100 ± 0.100 | {math.exp(4.1):.1f} | 0.100 | 0.200 | 4.100 | 3.900 | +0.020 |"
    assert row in page
    assert "| autoregressive" not in page and f"exact: 3.000 ± 0.010 nats, perplexity {math.exp(3):.1f}" in page


def test_measures_of_one_seed_have_their_interval_and_of_several_their_range():
    lines = [{"measures": {"mauve": {"generated": [value, value - 1, value + 1]}}} for value in (3.0, 5.0)]
    assert sampling.mean(lines[:1], "mauve") == (3.0, 2.0, 4.0)
    assert sampling.mean(lines, "mauve") == (4.0, 3.0, 5.0)
    assert sampling.mean(lines, "entropy_nats") is None


def test_the_split_of_the_variance_of_gradients_has_no_bias():
    """Two times, two gradients each, of a choice of two at each time: the mean over all 16 outcomes is the truth."""
    choices = np.array([[[1.0, 0.0], [3.0, 2.0]], [[-2.0, 1.0], [0.0, 5.0]]])  # [time, choice, parameter]
    found = []
    for picked in itertools.product(range(2), repeat=4):
        drawn = np.stack([choices[0][list(picked[:2])], choices[1][list(picked[2:])]])
        found.append(dispersion.split_variance((drawn**2).sum(-1).mean(1), drawn.mean(1), 2))
    within = np.mean([choices[time].var(0).sum() for time in range(2)])
    between = choices.mean(1).var(0, ddof=1).sum()
    assert np.mean([one["within"] for one in found]) == pytest.approx(within)
    assert np.mean([one["between"] for one in found]) == pytest.approx(between)


def test_time_is_looked_at_before_every_run(tmp_path, measured, monkeypatch):
    now = iter([0.0, 0.0, 0.0, 100.0, 100.0, 100.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    wanted = [cell(measured, "a"), cell(measured, "b", "udlm")]
    left = work_off(wanted, Results(tmp_path), place, 50.0, tell=lambda line: None)
    assert measured == ["a"] and left == wanted[1:]


def test_figure_3_has_ranges_over_seeds_and_correlations_of_means_and_of_single_seeds():
    scale = SCALES["toy"]
    lines = {}
    for place, entry in enumerate(dispersion.entries(scale)):
        lines[f"{kernel_of(entry).text}, dispersion"] = {"dispersion": float(place)}
        for seed, within in enumerate((place, -2.0 * place)):  # rank correlations of 1 and -1, of the means -1
            lines[f"{entry.text}, seed {seed}"] = {"within": within, "between": 1.0 + place, "mean": 1.0}
    page = dispersion.page(scale, [0, 1, 2], lines)
    assert "-1.00 (+1.00, -1.00) with the variance within times, +1.00 (+1.00, +1.00) with that between" in page
    assert "| 2 | 2 | -1 [-4, 2] | 3 [3, 3] | 1 [1, 1] |" in page


def test_figures_4_and_5_have_ranges_over_seeds(monkeypatch):
    monkeypatch.setattr(sampling, "protocol", lambda scale: "")  # of a scorer that need not be installed
    scale = SCALES["toy"]
    lines = {
        cell.key: {"measures": {name: {"generated": [100.0 + seed, 90.0, 110.0]} for name in sampling.MEASURES}}
        for seed in (0, 1)
        for cell in penalties.cells(scale, [seed])
    }
    assert "| 1 | 100 [100, 101] | 100 [100, 101] |" in penalties.page(scale, [0, 1], lines)
    assert "| 1 | 100 [90, 110] | 100 [90, 110] |" in penalties.page(scale, [0], lines)


def test_learning_rates_stand_beside_that_of_the_configuration():
    scale = SCALES["toy"]
    keys = [cell.key for cell in rates.cells(scale, [1, 2])]
    assert "gidd+objective.name=denoising+optimizer.learning_rate=0.006, seed 1, bound" in keys
    page = rates.page(scale, [1, 2], {key: likelihood_line(float(place)) for place, key in enumerate(keys)})
    assert "| mdlm | 0.000 ± 0.010 | 1.000 ± 0.010 |" in page and "| gidd | 2.000 ± 0.010 | 3.000 ± 0.010 |" in page


def test_pages_on_text_say_how_each_sampler_draws_and_from_what():
    line = {"system": "mdlm", "settings": "ancestral, 4 steps"}
    assert sampling.settings_of({"MDLM": line}) == "* MDLM: mdlm; ancestral, 4 steps"
    passage = {"index": 2.0, "text": "a | b", "page": "page.html"}
    name = basins.SAMPLERS[0][0]
    page = basins.page(SCALES["toy"], [0], {f"{name}, seed 0": {**line, "mean": 1.5, "passages": {"median": passage}}})
    assert f"| {name} | 1.50 | median | 2.00 | [a \\| b](page.html) |" in page and f"* {name}: mdlm; ancestral" in page
