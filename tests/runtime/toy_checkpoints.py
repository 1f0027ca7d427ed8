"""A state small enough to be saved many times, and ways to harm its files."""

import functools
import os

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from semdlm_jax.runtime.state import abstract_state, apply_update, create_state

OPTIMIZER = optax.adam(1e-2)


def init(key):
    return {"kernel": jax.random.normal(key, (64, 64)), "bias": jnp.arange(3.0)}


def shard(tree):
    return jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), tree)


ABSTRACT = abstract_state(init, OPTIMIZER, shard)


@functools.cache
def updater():
    return jax.jit(lambda state: apply_update(state, state.params, OPTIMIZER, ema_decay=0.9), donate_argnums=0)


def batches():
    return iter(grain.MapDataset.range(1000).shuffle(seed=1).repeat().to_iter_dataset().batch(4))


def run(checkpointer, losses):
    """Saves after each of len(losses) updates; returns {step: (state on the host, the batch that comes next)}."""
    state, iterator, truth = create_state(init, OPTIMIZER, jax.random.key(0), shard), batches(), {}
    for step, loss in enumerate(losses, start=1):
        state = updater()(state)
        next(iterator)
        truth[step] = [jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)]
        checkpointer.save(step, state, iterator, {"loss": loss})
        state = updater()(state)  # donates what is still being written
        truth[step].append(next(iterator))
    checkpointer.wait()
    return truth


def assert_restores(checkpointer, which, step, truth):
    iterator = batches()
    state, found = checkpointer.restore(ABSTRACT, iterator, which)
    assert found == step
    assert jax.tree.structure(state) == jax.tree.structure(ABSTRACT)
    for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(truth[step][0])):
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected)
    np.testing.assert_array_equal(next(iterator), truth[step][1])


def on_disk(folder):
    return sorted(path.name for path in folder.iterdir())


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
