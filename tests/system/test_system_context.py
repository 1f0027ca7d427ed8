"""A run with clean contexts, from its keys to its text: resume, export, what is refused and what is told."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

import semdlm_jax as sd
from benchmarks.soak.records import end_of
from semdlm_jax import checks, parent
from semdlm_jax.data.conditioning import Condition, continue_from, lay_out
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_denoiser, build_optimizer, build_stages, shard_rule
from semdlm_jax.experiment.configs import quickstart
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.generator import make_generator, note_of_context
from semdlm_jax.kernels import make_kernel
from semdlm_jax.network import Denoiser
from semdlm_jax.record import read_config
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.runtime.state import abstract_state
from semdlm_jax.samplers.presets import make_settings

KEYS = "--config.objective.clean_rows=0.5", "--config.network.clean_mark=True"


@pytest.fixture(scope="module")
def clean_run(config_file, whole_run, tmp_path_factory):
    """It begins with the weights of a run without marks."""
    workdir = tmp_path_factory.mktemp("clean") / "run"
    begin = f"--init_from={whole_run}"
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}", begin, *KEYS)
    assert result.status == 0 and f"beginning with the ema weights of {whole_run}, step 12" in result.out, result
    return workdir


def test_it_begins_with_weights_without_a_mark(whole_run, clean_run):
    """All weights are those of the other run, and the mark is none. Its warm-up has no clean contexts."""
    record = read_config(clean_run)
    config = ConfigDict(record)
    corpus = build_run_data(config)
    assert [stage.clean_rows for stage in build_stages(config, corpus).objectives] == [0.0, 0.5]
    denoiser, (optimizer, _) = build_denoiser(config, corpus), build_optimizer(config)
    abstract = abstract_state(denoiser.init, optimizer, shard_rule(make_mesh(1, 1, 1, jax.devices()[:1])))
    params = parent.begin(record["parent"], optimizer, abstract).params
    assert not np.any(params.pop("clean_mark"))
    jax.tree.map(np.testing.assert_array_equal, params, sd.load(whole_run, "latest").params)


def test_it_continues_to_the_bit_and_learns_the_mark(config_file, clean_run, tmp_path):
    shutil.copytree(clean_run, tmp_path, dirs_exist_ok=True)
    for later in (10, 12):
        shutil.rmtree(tmp_path / "checkpoints" / str(later))
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}", *KEYS)
    assert result.status == 0 and "from step 5" in result.out, result
    (_, arrays), (_, others) = end_of(tmp_path), end_of(clean_run)
    assert all(np.array_equal(array, other) for array, other in zip(arrays, others, strict=True))
    assert np.abs(sd.load(clean_run).params["clean_mark"]).max() > 1e-4


def test_an_export_keeps_the_mark(clean_run, tmp_path):
    result = tiny.command("export", f"--workdir={clean_run}", f"--output={tmp_path}/copy")
    assert result.status == 0, result.err
    run, copy = sd.load(clean_run), sd.load(tmp_path / "copy")
    np.testing.assert_array_equal(run.params["clean_mark"], copy.params["clean_mark"])
    assert run.trained.denoiser == copy.trained.denoiser and copy.trained.denoiser.clean_mark


def test_the_network_is_told_what_is_given_and_finished(clean_run, config_file, monkeypatch):
    seen, features = [], Denoiser.features

    def watched(self, params, tokens, t, *, clean_BxL, **how):
        jax.debug.callback(seen.append, clean_BxL, ordered=True)
        return features(self, params, tokens, t, clean_BxL=clean_BxL, **how)

    monkeypatch.setattr(Denoiser, "features", watched)
    trained = load_trained(clean_run)
    prompt = continue_from(open_prepared(config_file.parent / "data").tokenizer, "a", 14)
    layout = lay_out([prompt, Condition()], trained.rows("train"), np.random.default_rng(0))
    assert layout.given[0, :8].any() and not layout.given[0].all() and (layout.given[0] != layout.given[1]).any()
    make_generator(trained, make_settings(steps=4, strides=2)).write(jax.random.key(0), layout)
    jax.effects_barrier()
    for clean, finished in zip(seen, (0, 0, 8, 8), strict=True):
        np.testing.assert_array_equal(clean, layout.given | (np.arange(16) < finished))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"objective.clean_rows": 0.5}, "clean_rows = 0.5 and network.clean_mark = False: clean tokens are for a"),
        ({"network.clean_mark": True}, "clean_rows = 0.0 and network.clean_mark = True: clean tokens are for a"),
        (
            {"network.clean_mark": True, "objective.clean_rows": 0.5, "objective.name": "autoregressive"},
            "an autoregressive network reads no noise: set clean_rows = 0 and clean_mark = False",
        ),
        ({"objective.clean_layout": "suffix"}, "clean_layout = 'suffix' is unknown"),
    ],
)
def test_what_has_no_effect_is_refused(changes, words):
    config = quickstart.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        checks.check_config(config)


def test_a_layout_without_rows_is_told():
    config = quickstart.get_config()
    told = checks.tell_unread(config, {"objective.clean_layout": "mixed"})
    assert "nothing reads objective.clean_layout = 'mixed'" in told
    config.update_from_flattened_dict({"objective.clean_rows": 0.5, "network.clean_mark": True})
    assert checks.tell_unread(config, {"objective.clean_layout": "mixed"}) == ""


def test_it_is_told_where_given_tokens_are_read_as_noise(whole_run, clean_run):
    """Of a kernel whose noise looks like text, without marks, and only if something is given or finished."""
    trained, marked = (sd.load(run).trained for run in (whole_run, clean_run))
    nothing = Condition()
    end = nothing._replace(end=np.array([5], np.int32))
    hole = nothing._replace(start=np.array([0, 5], np.int32), known=np.array([False, True]))

    def told(trained, conditions, strides=1):
        return note_of_context(trained, conditions, make_settings(strides=strides))

    for condition in (end, hole):
        assert told(trained, [nothing, condition]).startswith("note: given tokens are read as noisy text")
    assert told(trained, [end], 2).startswith("note: given tokens and finished strides are read")
    assert told(trained, [nothing], 2).startswith("note: finished strides are read as noisy text of the current time")
    assert told(trained, [nothing]) == told(marked, [end], 2) == ""
    for name, looks in (("absorbing", False), ("hybrid", True), ("semantic_mask", True)):
        kernel = make_kernel(name, trained.corpus.vocabulary)
        other = dataclasses.replace(trained, objective=dataclasses.replace(trained.objective, kernel=kernel))
        assert bool(told(other, [end])) == looks, name
