"""Paths in trees as text, e.g. 'params/blocks/mlp/up/kernel', for sharding rules, parameter groups and messages."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import jax

NAMED_DIFFERENCES = 8


def path_text(path: tuple) -> str:
    """A jax key path as text, joined by '/'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_path(fn: Callable[[str, Any], Any], tree: Any) -> Any:
    """`jax.tree.map` with `fn(path, leaf)`; the path is text."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_text(path), leaf), tree)


def differing_keys(here: dict, there: dict, free: Iterable[str] = ()) -> list[str]:
    """The keys in which two flat dicts differ, without keys equal to or below a dotted prefix in `free`."""
    keys = sorted(here.keys() | there.keys())
    changed = [key for key in keys if _shown(here, key) != _shown(there, key)]
    return [key for key in changed if not any(f"{key}.".startswith(f"{prefix}.") for prefix in free)]


def differences(here: dict, there: dict, free: Iterable[str] = ()) -> str:
    """'a.b is 1 and was 2; …' of the `differing_keys`."""
    keys = differing_keys(here, there, free)
    told = [f"{key} is {_shown(here, key)} and was {_shown(there, key)}" for key in keys[:NAMED_DIFFERENCES]]
    more = len(keys) - NAMED_DIFFERENCES
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _shown(flat, key):
    return json.dumps(flat[key]) if key in flat else "absent"
