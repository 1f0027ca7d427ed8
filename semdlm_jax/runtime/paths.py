"""Tree paths as text, e.g. 'params/blocks/mlp/up/kernel': what sharding rules and parameter groups match against.

And what differs between two trees, told by such paths.
"""

import json
from collections.abc import Iterable

import jax

NAMED_DIFFERENCES = 8


def path_text(path):
    """A jax key path joined by '/': dictionary keys, attribute names and sequence positions alike."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_path(fn, tree):
    """`jax.tree.map` of `fn(path, leaf)` with the path as text."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_text(path), leaf), tree)


def differing_keys(here: dict, there: dict, free: Iterable[str] = ()) -> list[str]:
    """In which two flat dicts differ, leaving out keys at or below a dotted prefix in `free`."""
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
