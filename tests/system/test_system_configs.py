"""Every configuration file builds and takes a step when shrunk; every key of theirs is read by something."""

import ast
import importlib
import inspect
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from semdlm_jax.experiment import configs, defaults
from semdlm_jax.experiment.build import build_denoiser, build_kernel, describe
from semdlm_jax.experiment.configs import lm1b
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.kernels import KERNELS, SCHEDULES
from semdlm_jax.keys import CHOICES
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Objective
from semdlm_jax.plugins import options_of
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.semantics.settings import TableSettings
from semdlm_jax.train import Run


@pytest.mark.parametrize("name", configs.names())
def test_a_step_of_every_config(name, tmp_path):
    config = importlib.import_module(f"semdlm_jax.experiment.configs.{name}").get_config()
    config.data.update(corpus="synthetic", vocab_size=64, length=16)
    config.kernel.k_max = 4
    config.objective.chunk = min(config.objective.chunk, 8)
    config.network.update(width=16, layers=1, heads=2, condition_width=8)
    config.optimizer.warmup_steps = 0
    config.warmup.steps = min(config.warmup.steps, 1)
    config.training.update(steps=1, batch_size=4 * config.training.microbatches)
    run = Run(config.lock(), tmp_path)
    before = jax.tree.map(np.asarray, run.state.params)
    assert run.loop()
    moved = [np.any(x != y) for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(run.state.params))]
    assert any(moved) and all(np.isfinite(x).all() for x in jax.tree.leaves(run.state.params))


def test_lm1b_is_of_the_papers_size():
    """Counted by hand from the layers; nothing is allocated."""
    config = lm1b.get_config()
    V, D, C, N = 30522, 768, 128, 12
    assert (config.data.length, config.network.heads, config.training.batch_size) == (128, 12, 512)
    denoiser = build_denoiser(config, SimpleNamespace(vocab_size=config.data.vocab_size, vocabulary=None))
    params = jax.eval_shape(denoiser.init, jax.random.key(0))
    attention, mlp, modulation = 4 * D * D, 2 * D * 4 * D, C * 6 * D + 6 * D
    time, final = 2 * (C * C + C), C * 2 * D + 2 * D
    network = N * (attention + mlp + modulation) + time + final
    assert sum(x.size for x in jax.tree.leaves(params)) == network + 2 * V * D + V
    told = describe(params, denoiser)
    assert told == (
        f"{network:,} parameters in the network, {V * D:,} in the embedding table, {V * D + V:,} in the output table"
    )


def parameters(*functions):
    return {name for function in functions for name in inspect.signature(function).parameters}


def package_plugins(registry):
    """Without those that other tests have registered in this process."""
    return {name: plugin for name, plugin in registry.items() if plugin.__module__.startswith("semdlm_jax.")}


# Sections that are handed over whole, by their dotted keys, and the names that their receivers take.
WHOLE = {"network": parameters(Denoiser), "mesh": parameters(make_mesh), "objective": set(options_of(Objective))}
WHOLE["semantics"] = set(options_of(TableSettings))
for choice in CHOICES:
    options = [options_of(plugin) for plugin in package_plugins(choice.registry).values()]
    WHOLE[choice.section] = WHOLE.get(choice.section, set()).union(*options, {choice.key.rpartition(".")[2]})


def last_name(node):
    """c of `a.b.c` and of `c`; None for other expressions."""
    return getattr(node, "attr", getattr(node, "id", None))


def attributes():
    """(section, key) wherever the package writes `….section.key` or `section.key`, and the same below `config.`."""
    pairs, of_config = set(), set()
    for path in (tiny.ROOT / "semdlm_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                pairs.add((last_name(node.value), node.attr))
                if last_name(getattr(node.value, "value", None)) == "config":
                    of_config.add((last_name(node.value), node.attr))
    return pairs, of_config


def test_every_key_is_read_and_every_read_key_is_there():
    config = defaults.get_config()
    pairs, of_config = attributes()
    unread = []
    for path in tiny.flat(config):
        section, _, key = path.rpartition(".")
        if section and (section, key) not in pairs and key not in WHOLE.get(section, ()):
            unread.append(path)
    assert not unread and ("config", "seed") in pairs
    missing = {(s, k) for s, k in of_config if s in config and k not in config[s] and not hasattr(config, k)}
    assert not missing


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.key)
def test_every_option_of_a_plug_in_is_a_key_at_its_default(choice):
    """One key may serve several plug-ins: they must agree on its default."""
    flat = tiny.flat(defaults.get_config())
    assert flat[choice.key] in choice.registry
    for plugin in package_plugins(choice.registry).values():
        for name, option in options_of(plugin).items():
            assert flat[f"{choice.section}.{name}"] == option.default, (plugin, name)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_is_a_section_of_its_own(schedule):
    """It reaches every kernel that takes one, and the options that are not its own do not disturb it."""
    config = defaults.get_config()
    config.data.update(corpus="synthetic", vocab_size=12, length=16)
    config.kernel.update(k_max=4, blocks="3")
    config.semantics.blocks = "3"
    config.kernel.schedule.update(name=schedule, eps=0.25, sigma_min=0.5, sigma_max=4.0, power=3.0)
    corpus, t = build_run_data(config), np.array([0.0, 0.3, 1.0])
    wanted = {
        "linear": 1 - t,
        "loglinear": 1 - 0.75 * t,
        "cosine": 0.25 + 0.75 * np.cos(np.pi * t / 2),
        "geometric": np.exp(-(0.5 ** (1 - t)) * 4**t),
        "polynomial": 1 - t**3,
    }[schedule]
    for name in package_plugins(KERNELS).keys() - {
        "hybrid"
    }:  # whose alpha is the schedule's less what its uniform noise takes
        alpha = build_kernel(config, corpus, name).alpha(np.float32(t))
        np.testing.assert_allclose(alpha, wanted, atol=1e-6, err_msg=name)
    assert build_kernel(config, corpus, "hybrid").branches.schedule == SCHEDULES.pick(schedule, config.kernel.schedule)


def test_other_configs_add_no_key():
    known = tiny.flat(defaults.get_config()).keys()
    assert {"seed", "kernel.gamma", "kernel.schedule.eps"} <= known
    for name in configs.names():
        config = importlib.import_module(f"semdlm_jax.experiment.configs.{name}").get_config()
        assert tiny.flat(config).keys() == known, name
