"""The configuration of a run of the comparison, and the error that its table says."""

import sys

import pytest
from absl import flags

from benchmarks import bakeoff, lines
from benchmarks.bakeoff import Entry, configure, mean_nelbo, parse_seeds, parse_systems
from semdlm_jax import config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import configs


@pytest.fixture
def quickstart(monkeypatch):
    """On the command line, with a key."""
    known = set(flags.FLAGS)
    config_flag.define_config_flag()
    monkeypatch.setattr(sys, "argv", ["bakeoff", f"--config={configs.find('quickstart')}", "--config.data.length=32"])
    flags.FLAGS(sys.argv)
    yield
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.mark.usefixtures("quickstart")
def test_few_steps_have_room_for_their_warmup_as_in_training():
    told, entry = [], Entry.parse("mdlm")
    config = configure(entry, 8, 1, told.append)
    assert (config.training.steps, config.seed, config.data.length) == (8, 1, 32)
    assert (config.optimizer.warmup_steps, config.optimizer.decay_fraction) == (1, 0.5)
    assert told == ["note: with training.steps = 8 instead of 2800: optimizer.warmup_steps = 1"]
    assert configure(entry, 200, 1, told.append).optimizer.warmup_steps == 50 and len(told) == 1
    changed = configure(Entry.parse("mdlm+optimizer.warmup_steps=7"), 8, 1, told.append)
    assert changed.optimizer.warmup_steps == 7
    assert told[1:] == ["note: with training.steps = 8 instead of 2800: optimizer.decay_fraction = 0.125"]


def test_more_seeds_do_not_lessen_the_error_of_texts_that_they_share():
    likelihoods = [{"nelbo": nelbo, "standard_error": 0.02} for nelbo in (4.0, 4.002, 4.001)]
    assert mean_nelbo(likelihoods) == "4.001 ± 0.020"
    apart = [{"nelbo": nelbo, "standard_error": 0.02} for nelbo in (4.0, 4.2)]
    assert mean_nelbo(apart) == "4.100 ± 0.100"  # |4.2 - 4.0| / 2


def test_a_comma_before_a_number_belongs_to_a_value():
    entries = parse_systems("hdlm+kernel.speeds=1,20+objective.max_weight=0,mdlm+kernel.frequency_powers=1,.7,mdlm,ar")
    assert [entry.changes for entry in entries] == [
        (("kernel.speeds", "1,20"), ("objective.max_weight", "0")),
        (("kernel.frequency_powers", "1,.7"),),
        (),
        (),
    ]
    assert [entry.system for entry in entries] == ["hdlm", "mdlm", "mdlm", "ar"]
    assert len(parse_systems("all")) > 10
    spaced = parse_systems("hdlm+kernel.speeds=1, 20, mdlm")
    assert [entry.changes for entry in spaced] == [(("kernel.speeds", "1, 20"),), ()]


def test_seeds_are_whole_numbers_each_once():
    assert parse_seeds(["1", "0", "1"]) == [1, 0]
    for words, cause in (([], "--seeds=: give whole"), (["0", "x"], "--seeds=0,x: give"), ([str(2**32)], "--seeds")):
        with pytest.raises(UserError, match=cause):
            parse_seeds(words)


def test_scores_of_a_run_are_kept_once(tmp_path):
    path, entry = tmp_path / "scores.jsonl", Entry.parse("hdlm+kernel.speeds=1,20")
    for seed in (0, 1, 0):
        bakeoff.keep(path, entry, 8, seed, {"likelihood": {"nelbo": 4.0 + seed}})
    kept = lines.read_results(path)
    assert [(line["system"], line["seed"], line["likelihood"]["nelbo"]) for line in kept] == [
        (entry.text, 0, 4.0),
        (entry.text, 1, 5.0),
    ]
    bakeoff.keep(path, entry, 8, 0, {"likelihood": {"nelbo": 3.0}})  # of other --config.keys
    assert [line["likelihood"]["nelbo"] for line in lines.read_results(path)] == [4.0, 5.0, 3.0]


def test_lines_that_cannot_be_read_are_told_once(tmp_path, capsys):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(b'{"a": 1}\n3\n\xff\n')
    assert lines.read_results(path) == lines.read_results(path) == [{"a": 1}]
    notes = capsys.readouterr().err.splitlines()
    assert [note.rpartition(", ")[2] for note in notes] == [f"line {n} is cut off and not read" for n in (2, 3)]
    with pytest.raises(UserError, match="cannot be read .*: name another file"):
        lines.read_results(tmp_path)
