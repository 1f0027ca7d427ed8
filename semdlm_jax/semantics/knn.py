"""Exact cosine nearest neighbors, in blocks on the device, and hubness control: no token is in too many lists."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError, choose
from semdlm_jax.neighbor_lists import MISSING
from semdlm_jax.semantics.settings import HUBNESS

CANDIDATES = 4  # with a cap, a row chooses among its CANDIDATES * k nearest
DENSITY = 10  # nearest tokens whose mean cosine is the density around a token


def nearest_neighbors(
    embeddings: np.ndarray,
    k: int,
    candidates: np.ndarray,
    max_in_degree: int | None = None,
    block: int = 1024,
    hubness: str = "cap",
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest candidates of every candidate by cosine, itself excluded.

    Args:
        embeddings: [V, D] float.
        k: neighbors of each token.
        candidates: [V] bool; other tokens have empty rows and are in none. Nor is a token whose vector is zero, which
            has no direction.
        max_in_degree: for `cap`, how many rows may hold one token; None: no bound.
        block: rows compared at once; memory is O(V block).
        hubness: a name of settings.HUBNESS.
            cap: the greedy rule of `cap_in_degree` on the 4 k nearest; rows can then be shorter than k.
            csls: nearest by 2 cos(i, j) - r(i) - r(j), r the mean cosine of a token to its 10 nearest; neighbors are
            in this order, and their similarities are cosines.
            none: nearest by cosine.
        groups: [V]; where given, only tokens of equal value are neighbors.

    Returns:
        (ids, similarities): [V, k] int32, nearest first, MISSING behind the last; [V, k] float32, 0 there. Equal
        similarities are ordered by id.

    Raises:
        UserError: k or max_in_degree below 1, an unknown hubness control.

    Source:
        Conneau et al. (2018), "Word translation without parallel data", for csls.
    """
    if k < 1 or (max_in_degree is not None and max_in_degree < 1):
        raise UserError(f"neighbors = {k}, max_in_degree = {max_in_degree}: both must be at least 1")
    choose("hubness control", hubness, HUBNESS)
    cap = max_in_degree if hubness == "cap" else None
    unit = directions(embeddings)
    candidates = np.asarray(candidates, bool) & unit.any(1)
    groups = np.zeros(len(unit), int) if groups is None else np.asarray(groups)
    width = min(CANDIDATES * k if cap else k, len(unit))
    ids, similarities = np.full((len(unit), width), MISSING, np.int32), np.zeros((len(unit), width), np.float32)
    for group in np.unique(groups[candidates]):
        members = np.flatnonzero(candidates & (groups == group))
        nearest, cosines = _nearest_of_group(unit[members], width, min(block, len(unit)), hubness == "csls")
        # Members rise, so that among equals the lower place is the lower id.
        ids[members, : nearest.shape[1]] = np.where(nearest >= 0, members[nearest], MISSING)
        similarities[members, : nearest.shape[1]] = cosines
    if cap:
        ids = cap_in_degree(ids, similarities, k, cap)
    return _left_justified(ids, similarities, k)


def _nearest_of_group(unit, width, block, csls):
    """(indices [N, W] int32, MISSING behind the last; cosines [N, W] float32) of N vectors [N, D] among themselves,
    W <= N."""
    count = len(unit)
    padded = -(-count // block) * block
    there = jnp.arange(padded) < count
    unit = jnp.asarray(np.pad(unit, ((0, padded - count), (0, 0))))

    def nearest(width, density):
        rows = [_nearest_of_block(unit, there, density, start, width, block) for start in range(0, padded, block)]
        return (np.concatenate([np.asarray(row[i]) for row in rows])[:count] for i in (0, 1))

    density = jnp.zeros(padded)
    if csls:
        indices, cosines = nearest(min(DENSITY, count), density)
        mean = cosines.sum(1) / np.maximum((indices >= 0).sum(1), 1)
        density = jnp.asarray(np.pad(mean, (0, padded - count)))
    return nearest(min(width, count), density)


def directions(embeddings: np.ndarray) -> np.ndarray:
    """[V, D] float32 rows of unit length; zero stays zero."""
    embeddings = np.asarray(embeddings, np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norms > 0, norms, 1)


@functools.partial(jax.jit, static_argnames=("width", "block"))
def _nearest_of_block(unit, eligible, density, start, width, block):
    """(ids, cosines) [block, width] of rows start to start + block - 1; MISSING and 0 where no candidate is
    left."""
    queries = jax.lax.dynamic_slice_in_dim(unit, start, block)
    # HIGHEST: accelerators would round the products to bfloat16 and reorder near neighbors.
    cosines = jnp.matmul(queries, unit.T, precision=jax.lax.Precision.HIGHEST)
    itself = jnp.arange(unit.shape[0]) == (start + jnp.arange(block))[:, None]
    # A row's own density moves all its candidates alike.
    values, ids = jax.lax.top_k(jnp.where(eligible & ~itself, cosines - density / 2, -jnp.inf), width)
    found = jnp.isfinite(values)
    return jnp.where(found, ids, MISSING), jnp.where(found, jnp.take_along_axis(cosines, ids, 1), 0)


def cap_in_degree(ids: np.ndarray, similarities: np.ndarray, k: int, max_in_degree: int) -> np.ndarray:
    """Greedy hubness control: drops entries so that at most max_in_degree rows hold the same token, and rows at most k.

    Ranks are visited from the nearest on: every row proposes its nearest candidate, then every row its second, and so
    on. Within a rank, proposals are taken by falling similarity, equal ones by row. A proposal is accepted unless its
    row has k neighbors already or its candidate is in max_in_degree rows; its row may propose again at a later rank.

    Args:
        ids: [V, W] int, MISSING behind the last.
        similarities: [V, W].
        k, max_in_degree: the bounds.

    Returns:
        ids with refused entries set to MISSING.
    """
    kept = np.full_like(ids, MISSING)
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
    return np.pad(ids, fill, constant_values=MISSING).astype(np.int32), np.pad(similarities, fill).astype(np.float32)
