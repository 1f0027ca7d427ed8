"""The training state as one tree: its creation on the mesh, and the pure update that advances it."""

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
    """Everything a run needs to continue: step int32[] (updates done), parameters, their moving average, moments."""

    step: jax.Array
    params: Any
    ema_params: Any
    opt_state: Any


def _build(init_fn, optimizer, key):
    params = init_fn(key)
    # A copy: were the average the parameters' own buffer, donating the state would give one buffer away twice.
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


def abstract_state(init_fn, optimizer, shard):
    """The TrainState as ShapeDtypeStructs with shardings, without computing anything: what a restore asks for.

    `init_fn(key)` gives the parameters; `shard(abstract_tree)` gives a sharding for each leaf.
    """
    return abstract_tree(functools.partial(_build, init_fn, optimizer), shard)


def abstract_tree(build: Callable, shard: Callable) -> Any:
    """What `build(key)` gives, as ShapeDtypeStructs with shardings; `shard` as in `abstract_state`."""
    shapes = jax.eval_shape(build, jax.random.key(0))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shard(shapes)
    )


def create_state(init_fn, optimizer, key, shard):
    """A new TrainState at step 0, initialized straight into its shardings (arguments as in abstract_state)."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(init_fn, optimizer, shard))
    return jax.jit(functools.partial(_build, init_fn, optimizer), out_shardings=shardings)(key)


def state_from(params: Any, optimizer: optax.GradientTransformation, abstract: TrainState, opt_state: Any = None):
    """A TrainState at step 0 that begins with `params`, in the shardings of `abstract`.

    opt_state: moments to go on from, a tree like abstract.opt_state; by default there are none yet. Schedules start
    anew either way.
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


def apply_update(state, grads, optimizer, ema_decay):
    """The state after one optimizer step along `grads` (a tree like params). Pure; the caller jits and donates.

    The average decays by min(ema_decay, (1 + step) / (10 + step)) so that it forgets the initial values early;
    ema_decay=0 makes it follow the parameters exactly.
    """
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema_params, params)
    return TrainState(state.step + 1, params, ema_params, opt_state)
