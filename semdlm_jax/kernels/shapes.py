"""Checks of what callers from outside hand in. Shapes and dtypes are known when a function is traced: under jit these
checks cost nothing when it runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError


def as_tokens(name: str, tokens: Any) -> jax.Array:
    """The tokens as an array. UserError unless they are integers."""
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise UserError(f"{name} is {shown(tokens)}: give token ids, which are integers")
    return tokens


def as_times(
    t: Any, name: str, values: Any, axes: int | None = None, more: bool = False, which: str = "t"
) -> jax.Array:
    """The times t as a float array that broadcasts against tokens or weights.

    Args:
        t: a number or an array.
        name: of `values`, for the message.
        values: the tokens or weights.
        axes: how many of their leading axes, as in values.shape[:axes], stand for positions; all by default.
        more: whether t may have further axes in front, where many times are asked about the same tokens.
        which: the name of t, for the message.

    Raises:
        UserError: t is neither a number nor has one axis for each of these, of the same size or of size 1. With fewer
            axes it would be aligned with the last ones: times [B] of tokens [B, L] would go along the positions.
    """
    t = jnp.asarray(t) if hasattr(t, "dtype") else jnp.asarray(t, jnp.result_type(float))
    shape = np.shape(values)[:axes]
    own = t.shape[max(t.ndim - len(shape), 0) :] if more else t.shape
    fits = len(own) == len(shape) and all(1 in pair or pair[0] == pair[1] for pair in zip(own, shape))
    if t.ndim and not fits:
        each = name if axes is None else f"{name} before the last"
        raise UserError(
            f"{which} is {shown(t)} and {name} is {shown(values)}: give a number, or times with one axis of the same "
            f"size or of size 1 for each axis of {each}, as {which}[:, None] for tokens [B, L]"
        )
    if not jnp.issubdtype(t.dtype, jnp.floating):
        raise UserError(f"{which} is {shown(t)}: give times from 0 to 1 as floats")
    return t


def check_shape(name: str, values: Any, shape: tuple[int | None, ...], like: str, dtype: Any = None) -> None:
    """UserError unless `values` have this shape, in which None is any size, and a dtype of this kind.

    like: how the shape is told, as "[B, L] like given_BxL". dtype: as jnp.issubdtype takes it; None for any.
    """
    found = np.shape(values)
    fits = len(found) == len(shape) and all(wanted in (None, size) for size, wanted in zip(found, shape))
    if not fits:
        raise UserError(f"{name} is {shown(values)}: it must be {like}")
    if dtype is not None and not jnp.issubdtype(jnp.result_type(values), dtype):
        raise UserError(f"{name} is {shown(values)}: its dtype must be {dtype.__name__}")


def shown(values: Any) -> str:
    """`float32 [4, 4]`."""
    return f"{jnp.result_type(values)} {list(np.shape(values))}"
