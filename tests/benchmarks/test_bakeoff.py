"""The configuration of a run of the comparison, and the error that its table says."""

import sys

import pytest
from absl import flags

from benchmarks.bakeoff import Entry, configure, mean_nelbo
from semdlm_jax import config_flag
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
