"""Bounds of the rates back in time that hold for a while: what dominates the reverse process in continuous time.

B_t(z) is the largest rate at which z leaves its value at t, over all clean tokens. In a cell, from t back to its end,
it is taken to be at most MARGIN times the largest B at POINTS of the cell. It may grow as 1 / t, as 1 / (1 - t), and as
1 over the distance to the kernel's next earlier kink: a cell ends where one of these has shrunk by the share WIDTH.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.leaving import by_trying
from semdlm_jax.objectives.bound import T_NUMERIC_MAX
from semdlm_jax.samplers.methods import known_bound

WIDTH = 0.25
POINTS = (0.0, 0.5, 1.0)
MARGIN = 1.25
# Nearer to a kink than this share of t no event is looked for: float32 does not tell such times apart.
SLIVER = 2.0**-20
# What `check_rates` looks at, and the rates, in 1 / min(t, 1 - t), that it takes for the rounding of 0.
TRIED_STATES, TRIED_STARTS, TRIED_KINKS, TRIED_POINTS = 16, 64, 8, 9
FEW_STATES, FEW_STARTS = 4, 8
NO_RATE = 1e-5
EXPECTED_DRAWS = 2**8


def rate_bound(kernel: KernelBase, xt: jax.Array, t: jax.Array) -> jax.Array:
    """B_t(z), in 1 / unit of t: [N, B, L] of tokens [B, L] at times [N, B]."""
    times, wide = t[..., None], jnp.broadcast_to(xt, (*t.shape[:1], *xt.shape))
    bound = known_bound(kernel, wide, times)
    if bound is not None:
        return jnp.broadcast_to(bound, wide.shape)
    # [N, B] at a time: of all clean tokens at once this is [N, B, V].
    by_position = jax.lax.map(lambda tokens: by_trying(kernel, tokens, t), jnp.moveaxis(wide, -1, 0))
    return jnp.moveaxis(by_position, 0, -1)


def cell_end(t: jax.Array, kinks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(where a cell from t on ends, whether it is a sliver above a kink); shape of t."""
    below = jnp.max(jnp.where(kinks < t[..., None], kinks, 0), axis=-1, initial=0)
    sliver = t - below < SLIVER * t
    whole = t - WIDTH * jnp.minimum(jnp.minimum(t, 1 - t), t - below)
    return jnp.where(sliver, below * (1 - SLIVER), whole), sliver


def dominating_rate(kernel: KernelBase, xt: jax.Array, t: jax.Array, end: jax.Array) -> jax.Array:
    """[B, L] of tokens [B, L]: what `rate_bound` does not exceed from the times t [B] back to end [B]."""
    return MARGIN * jnp.max(rate_bound(kernel, xt, _between(t, end, POINTS)), axis=0)


def _between(t, end, shares):
    return jnp.stack([t + share * (end - t) for share in shares])


def expected_candidates(kernel: KernelBase, frequencies: ArrayLike, t_min: float) -> float:
    """How many candidates a position of text has from t = 1 to t_min on average: the integral of E[B_t(x_t)], by draws
    of x_t in the middle of every cell.

    frequencies: [V], how often tokens occur in text, up to a factor.
    """
    key, kinks = jax.random.key(0), kernel.kinks()
    weights = jnp.log(jnp.asarray(frequencies, jnp.result_type(float)))

    def add(state):
        key, t, total = state
        key, token_key, noise_key = jax.random.split(key, 3)
        end, sliver = cell_end(t, kinks)
        end = jnp.maximum(end, t_min)
        middle = (t + end) / 2
        x0 = jax.random.categorical(token_key, weights, shape=(EXPECTED_DRAWS, 1))
        rates = rate_bound(kernel, kernel.corrupt(noise_key, x0, middle), jnp.full((1, EXPECTED_DRAWS), middle))
        return key, end, total + jnp.where(sliver, 0, jnp.mean(rates) * (t - end)).astype(total.dtype)

    first = jnp.asarray(T_NUMERIC_MAX, jnp.result_type(float))
    return float(jax.lax.while_loop(lambda state: state[1] > t_min, add, (key, first, jnp.zeros_like(first)))[2])


def check_rates(kernel: KernelBase) -> None:
    """UserError where B is not finite, or exceeds `dominating_rate`, for some states in some cells. A kernel under jit,
    whose values are not known, is not checked."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(kernel)):
        return
    with jax.ensure_compile_time_eval():
        # A kernel that is no pytree is a constant of the program.
        constant = jax.tree_util.all_leaves([kernel])
        exceeded = jax.jit(functools.partial(_exceeded, kernel)) if constant else functools.partial(_of_arrays, kernel)
        starts, states = _tried(kernel)
        wrong = np.asarray(exceeded(jnp.asarray(starts), jnp.asarray(states))).any(-1)
    if wrong.any():
        raise UserError(
            f"the sampler exact cannot bound the rates of {type(kernel).__name__} near t = {starts[wrong][0]:.4g}: "
            "give another sampler, or name the times at which they jump in the kernel's `kinks`"
        )


def _tried(kernel):
    """(times [C] at which cells start, states [S]), host arrays: few where each costs O(V) or more."""
    few = known_bound(kernel, jnp.zeros((1, 1), jnp.int32), jnp.full((1, 1), 0.5)) is None
    states = np.linspace(0, kernel.num_states - 1, FEW_STATES if few else TRIED_STATES).astype(np.int32)
    odds = np.linspace(-7, np.log(T_NUMERIC_MAX / (1 - T_NUMERIC_MAX)), FEW_STARTS if few else TRIED_STARTS)
    kinks = np.asarray(kernel.kinks())
    tried = kinks[np.linspace(0, len(kinks) - 1, TRIED_KINKS).astype(int)] if len(kinks) else kinks
    above = tried[:, None] * (1 + 2.0 ** -np.arange(2, 19, 2))
    starts = np.concatenate([1 / (1 + np.exp(-odds)), above[above < T_NUMERIC_MAX]])
    return starts.astype(jnp.result_type(float)), states


def _exceeded(kernel, t, states):
    """[C, S] bool: whether the rate of a state is ever above the dominating rate of a cell, or infinite."""
    end, sliver = cell_end(t, kernel.kinks())
    xt = jnp.broadcast_to(states, (*t.shape, *states.shape))
    found = rate_bound(kernel, xt, _between(t, end, [*POINTS, *np.linspace(0, 1, TRIED_POINTS)]))
    held = jnp.maximum(MARGIN * jnp.max(found[: len(POINTS)], axis=0), NO_RATE / jnp.minimum(t, 1 - t)[:, None])
    holds = (found <= held) & jnp.isfinite(found)
    return ~jnp.all(holds, axis=0) & ~sliver[:, None]


_of_arrays = jax.jit(_exceeded)
