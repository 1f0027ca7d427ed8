"""What the benchmark of a training step times does run: every kind of step, at a tiny size."""

import numpy as np

from benchmarks import train_step
from semdlm_jax.experiment.configs import quickstart


def test_every_kind_of_step_runs(monkeypatch, quick_compile):
    monkeypatch.setattr(train_step, "DRAWS", 2)
    config = quickstart.get_config()
    config.data.update(corpus="synthetic", vocab_size=64, length=8)
    config.training.batch_size = 4
    config.network.update(width=16, layers=2, heads=2)
    steps = train_step.Steps(config)
    kinds = {"own": steps.stages(), "fixed": steps.fixed_noise(), "plain": steps.stages(**train_step.PLAIN)}
    functions, programs = steps.compile("adamw", kinds)
    assert functions.keys() == programs.keys() == kinds.keys()
    for run in (*functions.values(), steps.corruption()):
        run()
    flops = train_step.training_flops_per_token(steps.denoiser, 8)
    # Three products of 2 flops (forward, and two backward) with each weight of a layer, the table, and the attention.
    weights = 2 * (12 * 16**2) + 64 * 16 + (2 * 6 + 2) * 64 * 16 / 8 + (128 + 64) * 64 / 8
    assert config.network.condition_width == 64 and np.isclose(flops, 6 * weights + 12 * 2 * 8 * 16)
