"""The partitions that a run gets, and when another table stops it."""

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults
from semdlm_jax.experiment.data import build_run_data, check_unchanged
from semdlm_jax.former import upgrade_config
from semdlm_jax.kernels import KERNELS
from semdlm_jax.semantics import build as building

SETTINGS = {"neighbors": 32, "dimensions": 32, "min_count": 10}


@pytest.fixture
def config(prepared):
    config = defaults.get_config()
    config.data.directory, config.data.vocab_size = str(prepared.directory), 700
    config.kernel.name = "absorbing"
    return config


@pytest.fixture
def reads(monkeypatch):
    """Makes a kernel of this name one that reads partitions."""

    def mark(name):
        kind = KERNELS[name]
        monkeypatch.setitem(KERNELS, name, type(kind.__name__, (kind,), {"needs_partitions": True}))

    return mark


def test_a_run_is_stopped_by_other_partitions_where_its_kernel_reads_them(prepared, config, reads):
    """As for one recorded before there were any: it goes on with whatever partitions its table gets."""

    def data(**settings):
        building.build(prepared, **SETTINGS, **settings)
        return build_run_data(config, prepared)

    before = data(blocks="")
    after = data(blocks="20,2")
    assert before.vocabulary.partitions is None and after.vocabulary.partitions.max(1).tolist() == [20, 2]
    assert before.identity == after.identity  # of absorbing, which reads none
    reads("uniform")
    config.kernel.name = "uniform"
    one, other = data(blocks="20,2"), data(blocks="20,2", partition="random")
    assert one.identity.items() - before.identity.items() == {("partitions", one.identity["partitions"])}
    assert one.identity != other.identity
    check_unchanged("work", before.identity, config, other)
    check_unchanged("work", one.identity, config, one)
    with pytest.raises(UserError, match=r"another partitions than .*neighbors\.npz holds"):
        check_unchanged("work", one.identity, config, other)
    with pytest.raises(UserError, match="there are no partitions here, which this kernel needs: give semantics.blocks"):
        data(blocks="")


def test_the_kernel_of_a_warm_up_reads_them_too(prepared, config, reads):
    building.build(prepared, **SETTINGS, blocks="20,2")
    reads("unigram")
    config.warmup.kernel = "unigram"
    assert "partitions" not in build_run_data(config, prepared).identity
    config.warmup.steps = 1
    assert "partitions" in build_run_data(config, prepared).identity


def test_synthetic_blocks_are_arcs_of_the_ring(config):
    config.data.corpus, config.data.vocab_size = "synthetic", 45
    found = build_run_data(config).vocabulary.partitions
    assert found.max(1).tolist() == [16] and (found[0, :5] == 16).all()  # of the default what fits
    config.semantics.blocks = "8,4"
    found = build_run_data(config).vocabulary.partitions
    np.testing.assert_array_equal(found[:, 5:], [np.repeat(np.arange(8), 5), np.repeat(np.arange(4), 10)])
    config.semantics.blocks = "21"
    with pytest.raises(UserError, match="semantics.blocks = '21' for 40 tokens of text"):
        build_run_data(config)


def test_a_run_recorded_before_goes_on_with_its_configuration():
    today = defaults.get_config().to_dict()
    for key in ("blocks", "partition"):
        del today["semantics"][key]
    assert upgrade_config(today) == defaults.get_config().to_dict()
