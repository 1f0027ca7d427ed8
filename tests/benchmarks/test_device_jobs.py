"""Jobs for a card: what is left out, what stays after a failure, and which results share a table."""

import json
import subprocess
import threading
import time
import types

import pytest

from benchmarks import lines
from benchmarks.bakeoff import Entry
from benchmarks.device import job1, job2, runner
from benchmarks.device.table import tables

NELBO = {"nelbo": 5.0, "standard_error": 0.02, "prior": 0.0, "tokens": 2048}


def result(system, seed=0, steps=8, protocol="bound", **changes):
    """The line of a run."""
    return {
        "system": system,
        "seed": seed,
        "steps": steps,
        "tokens": 4096,
        "likelihood": {**NELBO, **changes},
        "protocol": protocol,
        "tokens_per_second": 1e6,
        "peak_bytes": 2e9,
        "parameters": {"network": 10_600_000, "embed": 1},
        "masked_steps": 1,
        "unigram": 7.3,
        "text": "digest",
        "machine": "a card",
    }


@pytest.fixture
def started(monkeypatch):
    """The systems that processes were started for; each fails if it is udlm, or else writes its line."""
    names = []

    def run(command, env, timeout):
        entry = Entry.parse(command[-1].removeprefix("--only="))
        names.append(entry.name)
        failed = entry.system == "udlm"
        if not failed:
            lines.append_result(run.file, result(entry.name))
        return types.SimpleNamespace(returncode=int(failed))

    monkeypatch.setattr(subprocess, "run", run)
    return types.SimpleNamespace(names=names, run=run)


def test_only_systems_without_a_result_are_trained_and_a_failure_stops_no_other(tmp_path, started):
    known, started.run.file = tmp_path / "known.jsonl", tmp_path / "new" / "wiki.jsonl"
    lines = [result("mdlm"), result("gidd", steps=9), result("gidd", seed=1)]  # of gidd another run
    known.write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries = [Entry.parse(text) for text in ("mdlm", "udlm", "gidd", "mdlm+objective.name=denoising")]
    options = types.SimpleNamespace(known=known, steps=8, seed=0, together=1)
    end = time.monotonic() + 60
    assert runner.work_off(entries, options, started.run.file, end) == ["udlm: ended with status 1"]
    assert started.names == ["udlm", "gidd", "mdlm, objective.name = denoising"]
    started.names.clear()
    runner.work_off(entries, options, started.run.file, end)
    assert started.names == ["udlm"]


def test_systems_that_share_a_card_share_its_memory(tmp_path, started, monkeypatch):
    meet, fractions = threading.Barrier(2), []
    write = subprocess.run

    def run(command, env, timeout):
        fractions.append(env["XLA_PYTHON_CLIENT_MEM_FRACTION"])
        meet.wait(timeout=60)  # broken, and so an error, if they came one after the other
        return write(command, env, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    started.run.file = tmp_path / "wiki.jsonl"
    options = types.SimpleNamespace(known=tmp_path / "none", steps=8, seed=0, together=2)
    entries = [Entry("mdlm"), Entry("gidd")]
    assert runner.work_off(entries, options, started.run.file, time.monotonic() + 60) == []
    assert sorted(started.names) == ["gidd", "mdlm"] and fractions == ["0.45", "0.45"]


def test_no_system_begins_that_the_slowest_so_far_could_not_end_in_time():
    assert runner.fits(1, []) and runner.fits(31, [10, 30]) and not runner.fits(29, [10, 30])


def test_a_line_that_was_cut_off_is_no_result_and_spoils_no_other(tmp_path, capsys):
    path = tmp_path / "wiki.jsonl"
    path.write_text(json.dumps(result("mdlm")) + '\n{"system": "ud')
    lines.append_result(path, result("ar"))
    assert [r["system"] for r in lines.read_results(path, tmp_path / "none")] == ["mdlm", "ar"]
    assert capsys.readouterr().err == f"note: {path}, line 2 is cut off and not read\n"


def test_a_table_holds_one_protocol_and_one_row_a_system_with_its_seeds():
    text = tables(
        [
            result("mdlm", nelbo=9.0),
            result("mdlm", nelbo=5.0),  # the same run once more: the last counts
            result("mdlm", seed=1, nelbo=5.5),
            result("udlm", nelbo=4.5),
            result("ar", protocol="exact", nelbo=4.0),
        ]
    )
    bound, exact = text.split("exact.")
    assert "4,096 tokens a run in 8 steps; test split, 2,048 tokens, unigram entropy 7.300; bound." in bound
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line and "system" not in line]
    assert rows == [
        "| udlm | 0 | 4.500 ± 0.020 | 0.000 | 1 | 1,000,000 | 2.0 GB | 10.6M | a card |",
        "| mdlm | 0, 1 | 5.250 ± 0.250 | 0.000 | 1 | 1,000,000 | 2.0 GB | 10.6M | a card |",
        "| ar | 0 | 4.000 ± 0.020 | 0.000 | 1 | 1,000,000 | 2.0 GB | 10.6M | a card |",
    ]
    assert "| ar " in exact and "| ar " not in bound


def test_the_jobs_name_known_systems():
    named = [Entry.parse(text) for job in (job1, job2) for text in job.SYSTEMS]
    assert len(set(named)) == len(named) and {entry.system for entry in named} == set(job1.SYSTEMS)
