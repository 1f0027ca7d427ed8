"""How much gradients in bfloat16 differ from those in float32, at the size of a training run.

    python -m benchmarks.gradients --config=configs/lm1b.py:mdlm --rows=256
    python -m benchmarks.gradients --config=configs/lm1b.py:semdlm_plus --rows=256 --config.data.directory=data/mine

One batch of the training split is corrupted once. Its gradient is computed with the same parameters in both dtypes, in
pieces of --micro_rows rows whose gradients are added up in float32. The parameters are those of initialization plus
normal noise of standard deviation 0.05 on every entry, because at initialization every layer is the identity and most
gradients are zero. On an accelerator, products in float32 are computed in full precision. Columns:
|bfloat16 - float32| / |float32| of each parameter; for the embedding also of single rows, the most frequent first.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from semdlm_jax import cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_denoiser, build_objective
from semdlm_jax.experiment.data import build_run_data, train_iterator
from semdlm_jax.objectives import NoisyBatch

ROWS_SHOWN = 6


def random_params(denoiser):
    leaves, tree = jax.tree.flatten(denoiser.init(jax.random.key(1)))
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return jax.tree.unflatten(
        tree, [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def gradient(objective, denoiser, params, x0, xt, t, micro_rows):
    """The gradient of the mean loss over the rows: a tree of float32 arrays on the host."""

    @jax.jit
    def piece(params, x0, xt, t, key):
        def loss(params):
            features = denoiser.features(params, xt, t)
            batch = NoisyBatch(x0, xt, t, jnp.ones(x0.shape))
            total, _ = objective.sums(lambda f: denoiser.logits(params, f), features, batch, key)
            return total

        return jax.grad(loss)(params)

    total = None
    for index, start in enumerate(range(0, len(x0), micro_rows)):
        part = slice(start, start + micro_rows)
        found = piece(params, x0[part], xt[part], t[part], jax.random.key(index))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    return jax.tree.map(lambda x: np.asarray(x) / x0.size, total)


def distance(one, other):
    """|one - other| / |other| over the last axis."""
    return np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)


def main(options):
    config = options.config
    if options.rows % options.micro_rows:
        raise UserError(f"--rows={options.rows} is no multiple of --micro_rows={options.micro_rows}: change either")
    with config.unlocked():
        config.training.batch_size = options.rows
    corpus = build_run_data(config)
    objective, half = build_objective(config, corpus), build_denoiser(config, corpus)
    whole = dataclasses.replace(half, dtype="float32")
    half = dataclasses.replace(half, dtype="bfloat16")
    x0 = jnp.asarray(next(train_iterator(config, corpus))["tokens"])
    _, xt, t, *_ = objective.corrupt(jax.random.key(0), x0, x0)
    params = random_params(whole)
    data = (params, x0, xt, t, options.micro_rows)
    with jax.default_matmul_precision("highest"):
        expected = gradient(objective, whole, *data)
    found = gradient(objective, half, *data)
    print(f"{jax.devices()[0].device_kind}, {x0.size:,} positions, {config.network.layers} x {config.network.width}\n")
    print("| parameter | off |\n| --- | ---: |")
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(expected)]
    for path, one, other in zip(paths, jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        off = f"{float(distance(one.ravel(), other.ravel())):.2%}" if np.any(other) else "no gradient"
        print(f"| {path} | {off} |")
    counts = np.bincount(np.ravel(xt), minlength=corpus.vocab_size)
    rows = np.argsort(-counts, kind="stable")[:ROWS_SHOWN]
    off = distance(found["embed"]["embedding"][rows], expected["embed"]["embedding"][rows])
    print("\n| row of the embedding | times at the input | off |\n| ---: | ---: | ---: |")
    print("\n".join(f"| {row} | {counts[row]:,} | {one:.2%} |" for row, one in zip(rows, off, strict=True)))


if __name__ == "__main__":
    config_flag.define_config_flag()
    flags.DEFINE_integer("rows", 256, "Rows of the batch.", lower_bound=1)
    flags.DEFINE_integer("micro_rows", 32, "Rows that the network computes at once.", lower_bound=1)
    cli.run(lambda: main(flags.FLAGS))
