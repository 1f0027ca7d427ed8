"""Comparison through its command line: runs and reports side by side, and one sentence for what cannot be compared."""

import json
import shutil

import pytest
import tiny

from semdlm_jax.compare import labels_of


@pytest.fixture(scope="module")
def runs(whole_run, tmp_path_factory):
    """A folder with two runs of one configuration but for the seed, both with a report."""
    folder = tmp_path_factory.mktemp("compared")
    for seed in (0, 1):
        run = folder / f"tiny-{seed}"
        shutil.copytree(whole_run, run)
        record = tiny.record(run)
        (run / "config.json").write_text(json.dumps(record | {"seed": seed}))
        options = "--measures=likelihood,entropy_nats,basin_index", "--samples=2", f"--output={run}/report.json"
        result = tiny.command("evaluate", f"--workdir={run}", f"--seed={seed}", *options)
        assert result.status == 0, result.err
    return folder


def test_two_runs(runs, tmp_path):
    """Seeds are a column, and with --by_run two; a run without a report is compared in what it has."""
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(runs / "tiny-0" / name, tmp_path / "bare" / name)
    with open(tmp_path / "bare" / "metrics.jsonl", "a") as file:
        file.write('{"step": 13, "train/lo')  # the process was killed as it wrote
    found = [json.loads((runs / f"tiny-{i}" / "report.json").read_text())["sections"] for i in (0, 1)]
    words = runs / "tiny-0", runs / "tiny-1", tmp_path / "bare"
    result = tiny.command(
        "compare", *words, "--by_run", "--strict", f"--output={tmp_path}/compare.html", f"--plots={tmp_path}/plots"
    )
    assert (result.status, result.err) == (0, ""), result
    page = (tmp_path / "compare.html").read_text()
    for section in found:
        value = section["likelihood"]["figures"]["nelbo"]["values"]["model"]
        shown = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        assert shown in result.out and shown in page and section["generation"]["protocol"] in page
    for words_shown in ("bare: it has no report", "trained", "heldout", "basin index (1 = like held-out)"):
        assert words_shown in result.out and words_shown in page
    assert page.count("<svg") == 2 and "Training loss" in page  # and the valid NELBO
    plots = [path.name for path in (tmp_path / "plots").glob("*.csv")]
    assert len(plots) == 2 and any("nelbo" in name for name in plots), plots
    averaged = tiny.command("compare", *words[:2])
    assert averaged.status == 0 and "tiny (seeds 0, 1)" in averaged.out and "(n = 2)" in averaged.out


def test_what_was_not_measured_alike_stands_apart(runs, tmp_path):
    """Another text, through the program; --strict refuses that and writes nothing."""
    (tmp_path / "letter.txt").write_text("one two")
    other, page = tmp_path / "other.json", tmp_path / "compare.html"
    options = f"--text={tmp_path}/letter.txt", "--samples=0", f"--output={other}"
    assert tiny.command("evaluate", f"--workdir={runs}/tiny-0", *options).status == 0
    result = tiny.command("compare", runs / "tiny-0" / "report.json", other, f"--output={page}")
    assert result.status == 0 and "Likelihood: not measured alike, so shown apart: text: " in result.out
    assert result.out.count("\nNELBO (nats/token)") == 2 and "written to" in result.out
    page.unlink()
    refused = tiny.command("compare", runs / "tiny-0", other, "--strict", f"--output={page}")
    tiny.assert_refused(refused, "--strict refuses", "text: ", "leave --strict out")
    assert not page.exists() and not refused.out


BAD = {
    "no runs": ([], ["no runs are given: give two or more"]),
    "one run": (["{runs}/tiny-0"], ["one run is given"]),
    "the same twice": (["{runs}/tiny-0", "{runs}/tiny-0/report.json"], ["are the same run: give each once"]),
    "not there": (["{runs}/tiny-0", "{runs}/none"], ["{runs}/none does not exist: give a work directory"]),
    "no run": (["{runs}/tiny-0", "{runs}"], ["{runs} holds no config.json", "give the work directory"]),
    "no report": (["{runs}/tiny-0", "{runs}/tiny-1/config.json"], ["config.json is no report", "evaluate --output"]),
    "no place": (["{runs}/tiny-0", "{runs}/tiny-1", "--output={runs}/none/c.html"], ["--output={runs}/none/c.html"]),
    "over an input": (
        ["{runs}/tiny-0", "{runs}/tiny-1", "--output={runs}/tiny-1/report.json"],
        ["is a report that is read: give a file of another name"],
    ),
    "over a run": (
        ["{runs}/tiny-0", "{runs}/tiny-1", "--output={runs}/tiny-1/config.json"],
        ["belongs to the run", "another name"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, runs):
    before = sorted((path, path.stat().st_size) for path in runs.rglob("*"))
    arguments, words = ([text.format(runs=runs) for text in part] for part in BAD[case])
    tiny.assert_refused(tiny.command("compare", *arguments), *words)
    assert sorted((path, path.stat().st_size) for path in runs.rglob("*")) == before


def test_labels_are_what_paths_have_not_in_common():
    assert labels_of(["runs/a", "runs/b/report.json"]) == ["a", "b"]
    assert labels_of(["runs/a", "runs/a/test.json", "runs/b"]) == ["a", "a/test", "b"]
    assert labels_of(["x/run", "y/run"]) == ["x/run", "y/run"]
    assert labels_of(["runs/a.json", "runs/a/report.json"]) == ["a.json", "a/report.json"]
    assert labels_of(["runs", "runs/b"]) == ["runs", "b"]
