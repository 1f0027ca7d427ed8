"""The examples in the docstrings of what users call, and those of the documentation, as the pages name them."""

import doctest
import importlib
import json
import re
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toys

import semdlm_jax as sd
from semdlm_jax.samplers.methods import Proposal, StepContext


@pytest.mark.parametrize(
    "module", ["kernels.named", "kernels.protocol", "samplers.controls", "samplers.loop", "samplers.time_grid"]
)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(f"semdlm_jax.{module}"))
    assert found.attempted and not found.failed


def test_the_kernel_with_drift(config_file, tmp_path, monkeypatch):
    """By the commands of its page, where its file lies: training, the bound, and a sample."""
    monkeypatch.syspath_prepend(toys.EXAMPLES)
    monkeypatch.setitem(sys.modules, "less_drift", None)  # so that what is imported here is forgotten afterwards
    del sys.modules["less_drift"]
    run = f"--workdir={tmp_path}/run"
    options = [f"--config={config_file}", "--config.kernel.name=less_drift:LessDrift", "--config.training.steps=8"]
    result = tiny.command("train", run, *options)
    assert result.status == 0, result.err
    assert tiny.command("evaluate", run, "--samples=0", f"--output={tmp_path}/report.json").status == 0
    report = json.loads((tmp_path / "report.json").read_text())
    likelihood = report["sections"]["likelihood"]["details"]
    assert 0 < likelihood["nelbo"] < np.inf and likelihood["prior"] < 1e-3
    result = tiny.command("generate", run, "--num_samples=1", "--steps=4")
    assert result.status == 0 and "── 0 ──" in result.out, result.err


def test_the_mixed_noise_is_uniform_and_unigram_noise():
    """By its definition: a quarter of the noise is uniform."""
    kernel = toys.example("mixed_noise").MixedNoise(uniform_part=0.25).build(toys.vocabulary())
    noise = 0.25 * toys.FLAT + 0.75 * toys.SKEWED
    found = kernel.prob(jnp.arange(toys.V), jnp.full(toys.V, 2), 0.6)
    np.testing.assert_allclose(found, 0.4 * (np.arange(toys.V) == 2) + 0.6 * noise, rtol=1e-6)


def test_lazy_positions_wait():
    """From masks all the way to the draft, a position is written unless it waits."""
    kernel, rows = toys.TOYS["absorbing"].build(), (4, 500)
    masks, draft = jnp.full(rows, toys.MASK), jnp.zeros(rows, int)
    now = StepContext(jnp.float32(1), jnp.float32(1e-6), jnp.float32(0), jnp.ones(rows, bool))
    proposal = Proposal(draft, jnp.ones(rows), jnp.ones(rows))
    step = toys.example("lazy_steps").Lazy(waiting=0.3).step(kernel, jax.random.key(0), masks, proposal, now, None)
    assert set(np.unique(step.tokens)) == {0, toys.MASK} and not step.frozen.any()
    assert np.mean(step.tokens == toys.MASK) == pytest.approx(0.3, abs=0.05)  # five standard errors


def test_the_own_loop_learns_the_text():
    """Its bound falls towards the 0.30 nats per token of the text, and its samples count upwards."""
    loop = toys.example("own_loop")
    params, losses = loop.train(200)
    assert np.mean(losses[-50:]) < 0.8 < np.mean(losses[:5])
    rows = np.asarray(loop.sample(params))
    steps = np.diff(rows, axis=1) % (loop.SIZE - 1)
    assert rows.max() < loop.SIZE - 1 and np.mean(steps == 1) > 0.7


def test_the_lines_of_the_pages_in_python(monkeypatch, capsys):
    """At toy size, with one model of the package for all of them."""
    model, loaded = sd.load("quickstart-mdlm"), []
    monkeypatch.setattr(sd, "load", lambda source: loaded.append(source) or model, raising=False)
    for page in (*sorted((tiny.ROOT / "docs").glob("*.md")), tiny.ROOT / "README.md"):
        for lines in re.findall(r"^    import semdlm_jax as sd\n(?:    .*\n|\n)*", page.read_text(), re.M):
            code = re.sub(r"(num_samples|steps)=\d+", r"\1=2", textwrap.dedent(lines)).replace("draws=16", "draws=1")
            exec(code.replace(", num_samples=2)", ", num_samples=2, steps=2)"), {})
            perplexity = float(capsys.readouterr().out.split()[-1])
            assert 1 < perplexity < 1000, page
    assert set(loaded) == {"quickstart-mdlm", "runs/mine", "mine"}
