"""The state's update: moving average in closed form, buffers that may be donated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from semdlm_jax.runtime.state import abstract_state, apply_update, create_state, state_from

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


def test_a_state_begins_with_given_weights():
    """At step 0, the average a copy; moments only where they are given, schedules from their start either way."""
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda step: -0.1 / (1 + step)))
    abstract = abstract_state(init, optimizer, shard)
    state = create_state(init, optimizer, jax.random.key(0), shard)
    for _ in range(2):
        state = apply_update(state, jax.tree.map(jnp.ones_like, state.params), optimizer, 0.9)
    for moments in (None, state.opt_state):
        begun = state_from(state.params, optimizer, abstract, moments)
        assert int(begun.step) == 0
        for tree in (begun.params, begun.ema_params):
            jax.tree.map(np.testing.assert_array_equal, tree, state.params)
        adam, schedule = begun.opt_state
        assert int(schedule.count) == 0 and int(state.opt_state[1].count) == 2
        expected = optimizer.init(state.params)[0] if moments is None else state.opt_state[0]
        jax.tree.map(np.testing.assert_array_equal, adam, expected)
