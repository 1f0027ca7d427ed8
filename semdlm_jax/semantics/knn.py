"""Exact cosine nearest neighbours in blocks on the device, and a cap on how many lists one token may enter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError

SURPLUS = 4  # with a cap, a row chooses among its SURPLUS * k nearest


def nearest_neighbours(embeddings, k, candidates, max_in_degree=None, block=1024):
    """The k nearest candidates of every candidate by cosine, itself excluded.

    embeddings: [V, D] float. candidates: [V] bool; other tokens have empty rows and enter none, nor does a token
    whose vector is zero (it has no direction). block: rows compared at once; memory is O(V * block).
    max_in_degree: at most so many rows hold the same token, by the greedy rule of `cap_in_degree` applied to the
    4k nearest; rows can then end shorter than k.
    Returns (ids [V, k] int32, nearest first, -1 where missing; similarities [V, k] float32, 0 where missing).
    Equal similarities are ordered by id. UserError: k or max_in_degree below 1.
    """
    if k < 1 or (max_in_degree is not None and max_in_degree < 1):
        raise UserError(f"neighbours = {k}, max_in_degree = {max_in_degree}: both must be at least 1")
    candidates = np.asarray(candidates, bool)
    vocab_size = len(embeddings)
    unit = directions(embeddings)
    candidates = candidates & unit.any(1)
    width = min(k if max_in_degree is None else SURPLUS * k, vocab_size)
    block = min(block, vocab_size)
    padded = -(-vocab_size // block) * block
    unit, eligible = (jnp.asarray(np.pad(x, ((0, padded - vocab_size), (0, 0)))) for x in (unit, candidates[:, None]))
    rows = [_nearest_of_block(unit, eligible[:, 0], start, width, block) for start in range(0, padded, block)]
    ids, similarities = (np.concatenate([np.asarray(row[i]) for row in rows])[:vocab_size] for i in (0, 1))
    ids = np.where(np.isfinite(similarities) & candidates[:, None], ids, -1)
    if max_in_degree is not None:
        ids = cap_in_degree(ids, similarities, k, max_in_degree)
    return _left_justified(ids, similarities, k)


def directions(embeddings):
    """[V, D] float32 rows of unit length; zero stays zero."""
    embeddings = np.asarray(embeddings, np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norms > 0, norms, 1)


@functools.partial(jax.jit, static_argnames=("width", "block"))
def _nearest_of_block(unit, eligible, start, width, block):
    """(ids, similarities) [block, width] of rows start .. start+block-1; -inf where no candidate is left."""
    queries = jax.lax.dynamic_slice_in_dim(unit, start, block)
    # HIGHEST: accelerators would round the products to bfloat16 and reorder near neighbours.
    similarities = jnp.matmul(queries, unit.T, precision=jax.lax.Precision.HIGHEST)
    itself = jnp.arange(unit.shape[0]) == (start + jnp.arange(block))[:, None]
    values, ids = jax.lax.top_k(jnp.where(eligible & ~itself, similarities, -jnp.inf), width)
    return ids, values


def cap_in_degree(ids, similarities, k, max_in_degree):
    """Greedy hubness control: drops entries so that no token is held by more than max_in_degree rows, no row by > k.

    Ranks are visited from the nearest on: first every row offers its nearest candidate, then every row its second, …
    Within a rank the offers are taken by falling similarity (ties: the lower row). An offer is accepted unless its
    row has k neighbours already or its candidate is in max_in_degree rows; a refused row refills at a later rank.
    ids: [V, W] int, -1 where missing. similarities: [V, W]. Returns ids with refused entries set to -1.
    """
    kept = np.full_like(ids, -1)
    out_degree, in_degree = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for rank in range(ids.shape[1]):
        rows = np.flatnonzero((ids[:, rank] >= 0) & (out_degree < k))
        rows = rows[np.lexsort((rows, -similarities[rows, rank], ids[rows, rank]))]  # by candidate, then similarity
        offered = ids[rows, rank]
        first = np.searchsorted(offered, offered)
        accepted = in_degree[offered] + np.arange(len(rows)) - first < max_in_degree  # one offer a row: exact
        kept[rows[accepted], rank] = offered[accepted]
        out_degree[rows[accepted]] += 1
        np.add.at(in_degree, offered[accepted], 1)
    return kept


def _left_justified(ids, similarities, k):
    """Moves the entries of each row to its front in order and cuts or fills to k."""
    order = np.argsort(ids < 0, axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(ids, order, 1)
    similarities = np.where(ids >= 0, np.take_along_axis(similarities, order, 1), 0)
    fill = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(ids, fill, constant_values=-1).astype(np.int32), np.pad(similarities, fill).astype(np.float32)
