"""Tree paths as text, e.g. 'params/blocks/mlp/up/kernel': what sharding rules and parameter groups match against."""

import jax


def path_text(path):
    """A jax key path joined by '/': dictionary keys, attribute names and sequence positions alike."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_path(fn, tree):
    """`jax.tree.map` of `fn(path, leaf)` with the path as text."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_text(path), leaf), tree)
