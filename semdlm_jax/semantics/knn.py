"""Exact cosine nearest neighbors in blocks on the device, and what keeps a few tokens from entering every list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError, choose
from semdlm_jax.semantics.settings import HUBNESS

SURPLUS = 4  # with a cap, a row chooses among its SURPLUS * k nearest
DENSITY = 10  # tokens whose mean cosine tells how dense a region is


def nearest_neighbors(embeddings, k, candidates, max_in_degree=None, block=1024, hubness="cap", groups=None):
    """The k nearest candidates of every candidate by cosine, itself excluded.

    embeddings: [V, D] float. candidates: [V] bool; other tokens have empty rows and enter none, nor does a token
    whose vector is zero (it has no direction). block: rows compared at once; memory is O(V * block).
    groups: [V], where given only tokens of equal value are neighbors. hubness: a name of settings.HUBNESS.
      cap   at most max_in_degree rows hold the same token, by the greedy rule of `cap_in_degree` applied to the 4k
            nearest; rows can then end shorter than k. None: no bound.
      csls  nearest by 2 cos(i, j) - r(i) - r(j), r the mean cosine of a token to its DENSITY nearest (Conneau et al.
            2018). Neighbors come in this order; their similarities are cosines all the same.
      none  nearest by cosine.
    Returns (ids [V, k] int32, nearest first, -1 where missing; similarities [V, k] float32, 0 where missing).
    Equal similarities are ordered by id. UserError: k or max_in_degree below 1, an unknown hubness control.
    """
    if k < 1 or (max_in_degree is not None and max_in_degree < 1):
        raise UserError(f"neighbors = {k}, max_in_degree = {max_in_degree}: both must be at least 1")
    choose("hubness control", hubness, HUBNESS)
    capped = hubness == "cap" and max_in_degree is not None
    unit = directions(embeddings)
    candidates = np.asarray(candidates, bool) & unit.any(1)
    groups = np.zeros(len(unit), int) if groups is None else np.asarray(groups)
    width = min(SURPLUS * k if capped else k, len(unit))
    ids, similarities = np.full((len(unit), width), -1, np.int32), np.zeros((len(unit), width), np.float32)
    for group in np.unique(groups[candidates]):
        members = np.flatnonzero(candidates & (groups == group))
        nearest, cosines = _nearest_of_group(unit[members], width, min(block, len(unit)), hubness == "csls")
        # Members rise, so that among equals the lower place is the lower id.
        ids[members, : nearest.shape[1]] = np.where(nearest >= 0, members[nearest], -1)
        similarities[members, : nearest.shape[1]] = cosines
    if capped:
        ids = cap_in_degree(ids, similarities, k, max_in_degree)
    return _left_justified(ids, similarities, k)


def _nearest_of_group(unit, width, block, csls):
    """(places [N, W] int32, -1 where missing; cosines [N, W] float32) of N vectors [N, D] among themselves, W <= N."""
    count = len(unit)
    padded = -(-count // block) * block
    there = jnp.arange(padded) < count
    unit = jnp.asarray(np.pad(unit, ((0, padded - count), (0, 0))))

    def nearest(width, density):
        rows = [_nearest_of_block(unit, there, density, start, width, block) for start in range(0, padded, block)]
        return (np.concatenate([np.asarray(row[i]) for row in rows])[:count] for i in (0, 1))

    density = jnp.zeros(padded)
    if csls:
        places, cosines = nearest(min(DENSITY, count), density)
        mean = cosines.sum(1) / np.maximum((places >= 0).sum(1), 1)
        density = jnp.asarray(np.pad(mean, (0, padded - count)))
    return nearest(min(width, count), density)


def directions(embeddings):
    """[V, D] float32 rows of unit length; zero stays zero."""
    embeddings = np.asarray(embeddings, np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norms > 0, norms, 1)


@functools.partial(jax.jit, static_argnames=("width", "block"))
def _nearest_of_block(unit, eligible, density, start, width, block):
    """(ids, cosines) [block, width] of rows start .. start+block-1; -1 and 0 where no candidate is left."""
    queries = jax.lax.dynamic_slice_in_dim(unit, start, block)
    # HIGHEST: accelerators would round the products to bfloat16 and reorder near neighbors.
    cosines = jnp.matmul(queries, unit.T, precision=jax.lax.Precision.HIGHEST)
    itself = jnp.arange(unit.shape[0]) == (start + jnp.arange(block))[:, None]
    # A row's own density moves all its candidates alike.
    values, ids = jax.lax.top_k(jnp.where(eligible & ~itself, cosines - density / 2, -jnp.inf), width)
    found = jnp.isfinite(values)
    return jnp.where(found, ids, -1), jnp.where(found, jnp.take_along_axis(cosines, ids, 1), 0)


def cap_in_degree(ids, similarities, k, max_in_degree):
    """Greedy hubness control: drops entries so that no token is held by more than max_in_degree rows, no row by > k.

    Ranks are visited from the nearest on: first every row offers its nearest candidate, then every row its second, …
    Within a rank the offers are taken by falling similarity (ties: the lower row). An offer is accepted unless its
    row has k neighbors already or its candidate is in max_in_degree rows; a refused row refills at a later rank.
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
