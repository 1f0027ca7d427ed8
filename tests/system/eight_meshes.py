"""Run by test_system_parity on 8 simulated devices: what five steps report under each mesh, as JSON."""

import json
import sys
from pathlib import Path

import jax

from semdlm_jax.experiment import defaults
from semdlm_jax.experiment.build import build_denoiser, build_optimizer, build_stages, shard_rule
from semdlm_jax.experiment.data import build_run_data, train_iterator
from semdlm_jax.network import attention
from semdlm_jax.runtime.mesh import check_batch, make_mesh, place_batch
from semdlm_jax.runtime.state import create_state
from semdlm_jax.train_step import make_train_step


def configuration():
    config = defaults.get_config()
    config.data.update(corpus="synthetic", vocab_size=64, length=16)
    config.kernel.k_max = 4
    config.objective.lambda_same = 0.1
    config.warmup.steps = 2
    config.network.update(width=16, layers=1, heads=8, condition_width=8, dropout=0.0, dtype="float32")
    config.optimizer.update(learning_rate=1e-2, warmup_steps=0)
    config.training.update(steps=5, batch_size=16)
    return config


def steps(mesh, microbatches=1, dropout=0.1):
    """Losses and gradient norms of five steps with random corruption, and how many parameters are cut."""
    config = configuration()
    config.network.dropout = dropout
    check_batch(config.training.batch_size, microbatches, mesh)
    corpus = build_run_data(config)
    denoiser, (optimizer, _) = build_denoiser(config, corpus), build_optimizer(config)
    iterator = train_iterator(config, corpus)
    state = create_state(denoiser.init, optimizer, jax.random.key(config.seed), shard_rule(mesh))
    cut = sum(not x.sharding.is_fully_replicated for x in jax.tree.leaves(state.params))
    step = make_train_step(
        build_stages(config, corpus),
        denoiser,
        optimizer,
        ema_decay=0.9,
        microbatches=microbatches,
        seed=config.seed,
        mesh=mesh,
        state_shardings=jax.tree.map(lambda x: x.sharding, state),
    )
    found = {"loss": [], "grad_norm": []}
    for _ in range(config.training.steps):
        batch = place_batch(next(iterator), mesh)
        state, metrics = step(state, batch["tokens"], batch["mask"])
        for name, values in found.items():
            values.append(float(metrics[name]))
    return found | {"cut": cut}


def main(output):
    one = make_mesh(1, 1, 1, jax.devices()[:1])
    # Every microbatch has dropout of its own.
    results = {"one": steps(one), "no dropout": steps(one, 1, 0.0), "two microbatches": steps(one, 2, 0.0)}
    attention.QUERIES = 6  # 16 positions by parts of the queries, on meshes alone
    for sizes in ((1, 8, 1), (2, 2, 2)):  # of the second the first axis takes rows alone
        results[str(sizes)] = steps(make_mesh(*sizes))
    Path(output).write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
