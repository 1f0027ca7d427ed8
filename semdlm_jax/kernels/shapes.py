"""Checks of what callers from outside hand in. Shapes and dtypes are known when a function is traced: under jit these
checks cost nothing when it runs."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from semdlm_jax.errors import UserError
from semdlm_jax.options import shown as shown_value

F = TypeVar("F", bound=Callable)


def as_tokens(name: str, tokens: Any, vocab_size: int | None = None) -> jax.Array:
    """The tokens as an array. UserError unless they are integers, and ids below vocab_size if that is given: values are
    known, and checked, outside of jit alone."""
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise UserError(f"{name} is {shown(tokens)}: give token ids, which are integers")
    if vocab_size is not None and (wrong := _outside(tokens, 0, vocab_size - 1)) is not None:
        raise UserError(f"{name} holds {wrong}: give token ids from 0 to {vocab_size - 1}")
    return tokens


def _outside(values, low, high):
    """A value that is not in [low, high], None if there is none or values are not known, as under jit."""
    if isinstance(values, Tracer) or not values.size or not values.is_fully_addressable:
        return None
    known = np.asarray(values)
    wrong = known[~((known >= low) & (known <= high))]
    return wrong[0] if wrong.size else None


def check_key(key: Any) -> None:
    """UserError unless this is one random key of JAX, of either form."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    new = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (shape == () if new else dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        raise UserError(f"key is {shown_value(key)}: give one random key, as jax.random.key(0)")


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
    t = as_floats(t, which)
    shape = np.shape(values)[:axes]
    own = t.shape[max(t.ndim - len(shape), 0) :] if more else t.shape
    fits = len(own) == len(shape) and all(1 in pair or pair[0] == pair[1] for pair in zip(own, shape))
    if t.ndim and not fits:
        each = name if axes is None else f"{name} before the last"
        raise UserError(
            f"{which} is {shown(t)} and {name} is {shown(values)}: give a number, or times with one axis of the same "
            f"size or of size 1 for each axis of {each}, as {which}[:, None] for tokens [B, L]"
        )
    return t


def as_floats(t: Any, which: str = "t") -> jax.Array:
    """The times t as a float array. UserError unless they are a number or an array of floats. which: their name."""
    try:
        t = jnp.asarray(t) if hasattr(t, "dtype") else jnp.asarray(t, jnp.result_type(float))
    except (TypeError, ValueError):
        raise UserError(f"{which} is {shown_value(t)}: give a number from 0 to 1, or an array of such") from None
    if not jnp.issubdtype(t.dtype, jnp.floating):
        raise UserError(f"{which} is {shown(t)}: give times from 0 to 1 as floats")
    if (wrong := _outside(t, 0, 1)) is not None:
        raise UserError(f"{which} holds {wrong:g}: give times from 0 to 1")
    return t


def takes_times(function: F) -> F:
    """A function whose arguments t and s may be numbers or arrays: it gets each as a float array (`as_floats`)."""
    names = list(inspect.signature(function).parameters)
    places = {which: names.index(which) for which in ("t", "s") if which in names}

    @functools.wraps(function)
    def with_times(*args, **named):
        given = list(args)
        for which, place in places.items():
            if place < len(given):
                given[place] = None if given[place] is None else as_floats(given[place], which)
            elif named.get(which) is not None:
                named[which] = as_floats(named[which], which)
        return function(*given, **named)

    return cast(F, with_times) if places else function


class TakesTimes:
    """Base of a class whose public methods take times t (and s): each subclass's own become `takes_times`."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, takes_times(method))


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


def misfit(values: Any, shape: tuple[int, ...], dtype: Any = None) -> str:
    """What `values` are, in words, unless they are an array that broadcasts to this shape with as many axes, and whose
    dtype is of this kind; then ''."""
    if not (hasattr(values, "shape") and hasattr(values, "dtype")):
        return f"a {type(values).__name__}"
    fits = len(values.shape) == len(shape) and all(one in (1, size) for one, size in zip(values.shape, shape))
    return "" if fits and (dtype is None or jnp.issubdtype(values.dtype, dtype)) else shown(values)


def shown(values: Any) -> str:
    """`float32 [4, 4]`."""
    return f"{jnp.result_type(values)} {list(np.shape(values))}"
