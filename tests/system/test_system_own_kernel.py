"""A kernel of one's own, beside one's own configuration: named `module:Class`, it goes through everything."""

import json
import sys

import numpy as np
import pytest
import tiny
import toys

from semdlm_jax.experiment.load import load_trained

# Those of the documentation, in one file.
MODULE = "\n".join((toys.EXAMPLES / f"{name}.py").read_text() for name in ("mixed_noise", "focal_loss", "lazy_steps"))
CONFIG = """
import importlib.util

spec = importlib.util.spec_from_file_location("plain", {plain!r})
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def get_config(system=None):
    config = plain.get_config(system)
    config.kernel.name = "{module}:MixedNoise"
    config.kernel.uniform_part = 0.25
    config.objective.name = "{module}:Focal"
    config.objective.focus = 1.5
    config.kernel.schedule.name = "cosine"
    config.training.steps = 8
    return config
"""


@pytest.fixture(scope="module")
def own(config_file, tmp_path_factory):
    """(the configuration file, the module's name); the module is where Python looks, as PYTHONPATH would have it."""
    folder, module = tmp_path_factory.mktemp("own"), "kernels_of_a_users_own"
    (folder / f"{module}.py").write_text(MODULE)
    (folder / "config.py").write_text(CONFIG.format(plain=str(config_file), module=module))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "config.py", module


@pytest.fixture(scope="module")
def workdir(own, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("own_runs") / "run"
    result = tiny.command("train", f"--config={own[0]}", f"--workdir={workdir}")
    assert result.status == 0, result.err
    return workdir


def test_it_is_built_with_its_own_options_and_the_schedule(workdir, own):
    """The work directory alone says which; 1e-6 for float32."""
    assert json.loads((workdir / "config.json").read_text())["kernel"]["name"] == f"{own[1]}:MixedNoise"
    trained = load_trained(workdir)
    counts, kernel = trained.corpus.vocabulary.unigram, trained.objective.kernel
    wanted = 0.25 / len(counts) + 0.75 * counts / counts.sum()
    np.testing.assert_allclose(kernel.global_prior.probs, wanted, atol=1e-6)
    assert trained.objective.loss.focus == 1.5
    assert kernel.alpha(np.float32(1)) == pytest.approx(1e-3, abs=1e-6)


def test_elsewhere_it_is_not_run_unasked(workdir, own, monkeypatch):
    """A work directory may come from anyone, and importing a module runs its code."""
    monkeypatch.delitem(sys.modules, own[1])
    for module in ("evaluate", "generate"):
        result = tiny.command(module, f"--workdir={workdir}")
        tiny.assert_refused(result, f"{own[1]}:MixedNoise", "--trust_code", f"import {own[1]} first")
    assert own[1] not in sys.modules
    sampling = [f"--sampler={own[1]}:Lazy", "--waiting=0.5", "--num_samples=1", "--steps=2"]
    result = tiny.command("generate", f"--workdir={workdir}", "--trust_code", *sampling)
    assert result.status == 0 and "waiting 0.5" in result.out, result


def test_elsewhere_it_is_missed(workdir, own, monkeypatch):
    """A work directory moved to where the module is not: told in one line, with where to run."""
    monkeypatch.delitem(sys.modules, own[1])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(own[0].parent)])
    for module in ("evaluate", "generate"):
        result = tiny.command(module, f"--workdir={workdir}", "--trust_code")
        tiny.assert_refused(result, f"{own[1]}:MixedNoise", f"where Python finds {own[1]}")


def test_an_option_that_it_lacks(own, tmp_path):
    """The keys of one's own configuration are checked as all are."""
    options = [f"--config={own[0]}", f"--workdir={tmp_path}/run", "--config.kernel.uniform_par=1"]
    tiny.assert_refused(tiny.command("train", *options), "'uniform_par'", "did you mean 'uniform_part'")
    misspelled = tmp_path / "config.py"
    misspelled.write_text(own[0].read_text().replace("config.kernel.uniform_part", "config.kernel.uniform_par"))
    result = tiny.command("train", f"--config={misspelled}", options[1])
    tiny.assert_refused(result, "'kernel.uniform_par'", "did you mean 'uniform_part'")
    result = tiny.command("train", *options[:2], "--config.kernel.uniform_part=nan")
    tiny.assert_refused(result, "kernel.uniform_part = nan is no finite number")
