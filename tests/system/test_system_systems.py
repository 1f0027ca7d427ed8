"""The systems by name: each is found, built as its authors have it, trained, scored by the one bound and sampled."""

import json
import math

import pytest
import tiny

from configs import lm1b, quickstart
from configs.systems import SYSTEMS

STEPS = 3
TIMES = "continuous-time bound, 1 stratified t in [0.001, 0.99999] a window"


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    """A function (system, options) -> the work directory of a short run."""

    def run(system, *options):
        workdir = tmp_path_factory.mktemp("systems") / system
        options = [f"--config.training.steps={STEPS}", *options]
        result = tiny.command("train", f"--config={config_file}:{system}", f"--workdir={workdir}", *options)
        assert result.status == 0, result.err
        return workdir

    return run


def evaluated(workdir, *options):
    """The report, by the command line."""
    output = workdir / "report.json"
    result = tiny.command("evaluate", f"--workdir={workdir}", f"--output={output}", *options)
    assert result.status == 0, result.err
    return json.loads(output.read_text())


@pytest.mark.parametrize("system", SYSTEMS)
def test_trains_scores_and_writes(run, system):
    """Every system is scored over the same times, whatever times its own loss is drawn at."""
    workdir = run(system)
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/loss" in row for row in metrics) == STEPS
    report = evaluated(workdir, "--samples=0")
    likelihood = report["likelihood"]
    assert 0 < likelihood["nelbo"] < 2 * math.log(40) and 0 < likelihood["standard_error"] < math.inf
    write = ["generate", f"--workdir={workdir}", "--num_samples=1", "--steps=2", f"--output={workdir}/sample.jsonl"]
    if system == "ar":
        assert "exact likelihood by the chain rule" in report["protocol"] and likelihood["prior"] == 0
        assert evaluated(workdir)["samples"] == {}
        for command in (write, ["evaluate", f"--workdir={workdir}", "--samples=2"]):
            tiny.assert_refused(tiny.command(*command), "autoregressive", "no reverse process", "evaluated, not sampled")
    else:
        assert TIMES in report["protocol"]
        result = tiny.command(*write)
        assert result.status == 0, result.err
        (row,) = [json.loads(line) for line in (workdir / "sample.jsonl").read_text().splitlines()]
        assert len(row["tokens"]) == 16 and not set(row["tokens"]) & {0, 1, 2, 3, 4}
