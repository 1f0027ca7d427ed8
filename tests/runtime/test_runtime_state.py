"""The state's update: moving average in closed form, buffers that may be donated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from semdlm_jax.runtime.state import abstract_state, apply_update, create_state

OPTIMIZER = optax.sgd(1.0, momentum=0.5)


def init(key):
    return {"kernel": jax.random.normal(key, (4, 3)), "bias": jnp.zeros(3)}


def shard(tree):
    return jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), tree)


def test_abstract_state_describes_the_created_one():
    state, abstract = create_state(init, OPTIMIZER, jax.random.key(0), shard), abstract_state(init, OPTIMIZER, shard)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(abstract)):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (shape.shape, shape.dtype, shape.sharding)
    np.testing.assert_array_equal(state.params["kernel"], init(jax.random.key(0))["kernel"])


def test_average_never_shares_a_buffer_with_the_parameters():
    state = create_state(init, OPTIMIZER, jax.random.key(0), shard)
    # A decay of 0 makes both values equal: the place where a compiler might merge the buffers.
    update = jax.jit(functools.partial(apply_update, optimizer=OPTIMIZER, ema_decay=0.0), donate_argnums=0)
    for _ in range(3):
        for average, parameter in zip(jax.tree.leaves(state.ema_params), jax.tree.leaves(state.params)):
            assert average.unsafe_buffer_pointer() != parameter.unsafe_buffer_pointer()
            np.testing.assert_array_equal(average, parameter)
        state = update(state, jax.tree.map(jnp.ones_like, state.params))
    assert int(state.step) == 3


def test_average_matches_its_definition():
    state = create_state(init, OPTIMIZER, jax.random.key(0), shard)
    update = jax.jit(functools.partial(apply_update, optimizer=OPTIMIZER, ema_decay=0.3))
    values, average = [], np.array(state.params["kernel"], np.float64)
    for step in range(6):
        state = update(state, jax.tree.map(lambda leaf: 0.1 * jnp.cos(leaf), state.params))
        values.append(np.array(state.params["kernel"], np.float64))
        decay = min(0.3, (1 + step) / (10 + step))  # the warm-up ends between steps 2 and 3
        average = decay * average + (1 - decay) * values[-1]
    np.testing.assert_allclose(state.ema_params["kernel"], average, rtol=1e-6, atol=1e-7)
