"""The training state as one tree: its creation on the mesh, and the pure function that updates it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "params", "ema_params", "opt_state"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything a run needs to continue.

    Attributes:
        step: int32[], the number of updates done.
        params: the parameters.
        ema_params: their moving average.
        opt_state: of the optimizer.
    """

    step: jax.Array
    params: Any
    ema_params: Any
    opt_state: Any


def _build(init_fn, optimizer, key):
    params = init_fn(key)
    # A copy: if average and parameters shared a buffer, donating the state would donate this buffer twice.
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


def abstract_state(init_fn: Callable, optimizer: optax.GradientTransformation, shard: Callable) -> TrainState:
    """The TrainState as ShapeDtypeStructs with shardings, without computing anything: a restore needs it.

    Args:
        init_fn: key -> parameters.
        optimizer: whose state is part of it.
        shard: abstract tree -> a sharding for each leaf.
    """
    return abstract_tree(functools.partial(_build, init_fn, optimizer), shard)


def abstract_tree(build: Callable, shard: Callable) -> Any:
    """The result of `build(key)` as ShapeDtypeStructs with shardings; `shard` as in `abstract_state`."""
    shapes = jax.eval_shape(build, jax.random.key(0))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shard(shapes)
    )


def create_state(
    init_fn: Callable, optimizer: optax.GradientTransformation, key: jax.Array, shard: Callable
) -> TrainState:
    """A new TrainState at step 0, initialized directly in its shardings; arguments as in `abstract_state`."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(init_fn, optimizer, shard))
    return jax.jit(functools.partial(_build, init_fn, optimizer), out_shardings=shardings)(key)


def state_from(
    params: Any, optimizer: optax.GradientTransformation, abstract: TrainState, opt_state: Any = None
) -> TrainState:
    """A TrainState at step 0 with given parameters.

    Args:
        params: the parameters.
        optimizer: of the new run.
        abstract: gives the shardings.
        opt_state: the optimizer's state to continue from, a tree like abstract.opt_state; None for a new one. Schedules
            restart in both cases.
    """

    def build(params, opt_state):
        opt_state = optimizer.init(params) if opt_state is None else _restart_schedules(opt_state)
        return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), opt_state)

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(build, out_shardings=shardings)(params, opt_state)


def _restart_schedules(opt_state):
    def restart(node):
        return jax.tree.map(jnp.zeros_like, node) if is_schedule(node) else node

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    return jax.tree.map(restart, opt_state, is_leaf=is_schedule)


def apply_update(
    state: TrainState, grads: Any, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The state after one optimizer step. A pure function; the caller compiles it and donates the state.

    The average decays by min(ema_decay, (1 + step) / (10 + step)), so that it soon forgets the initial values.

    Args:
        state: before the step.
        grads: a tree like state.params.
        optimizer: an optax transformation.
        ema_decay: of the average; 0 makes it equal to the parameters.
    """
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema_params, params)
    return TrainState(state.step + 1, params, ema_params, opt_state)
