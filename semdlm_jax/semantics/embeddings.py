"""Token vectors from the corpus itself: positive pointwise mutual information of neighboring tokens, then an SVD."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from semdlm_jax.errors import UserError

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
CHUNK = 1 << 23  # tokens counted at a time: bounds memory on long streams


def count_pairs(
    tokens: np.ndarray,
    vocab_size: int,
    window: int,
    excluded_ids: Sequence[int] = (),
    boundary_ids: Sequence[int] = (),
) -> scipy.sparse.csr_matrix:
    """How often two tokens stand at most `window` positions apart.

    Args:
        tokens: [N] int, one stream.
        vocab_size: V.
        window: in tokens.
        excluded_ids: tokens that take a position but are not counted.
        boundary_ids: tokens that end a document: pairs on both sides of one are not counted.

    Returns:
        Symmetric counts [V, V], sparse float64.
    """
    excluded, boundary = np.zeros(vocab_size, bool), np.zeros(vocab_size, bool)
    excluded[[*excluded_ids, *boundary_ids]] = True
    boundary[list(boundary_ids)] = True
    counts = scipy.sparse.csr_matrix((vocab_size, vocab_size))
    for begin in range(0, len(tokens), CHUNK):
        chunk = np.asarray(tokens[begin : begin + CHUNK + window], np.int32)
        document = np.cumsum(boundary[chunk])
        counted = ~excluded[chunk]
        for distance in range(1, min(window, len(chunk) - 1) + 1):
            left, right = chunk[:-distance][:CHUNK], chunk[distance:][:CHUNK]
            both = counted[:-distance] & counted[distance:] & (document[:-distance] == document[distance:])
            both = both[:CHUNK]
            pairs = scipy.sparse.coo_matrix((np.ones(both.sum()), (left[both], right[both])), counts.shape)
            counts = counts + pairs.tocsr()
    return (counts + counts.T).tocsr()


def ppmi(counts: scipy.sparse.csr_matrix, smoothing: float) -> scipy.sparse.csr_matrix:
    """max(0, log P(i, j) / (P(i) P_s(j))), sparse; the context distribution P_s ∝ (Σ_i counts[i, j])^smoothing."""
    pairs = counts.tocoo()
    word = np.asarray(pairs.sum(1)).ravel()
    context = np.asarray(pairs.sum(0)).ravel() ** smoothing
    context /= max(context.sum(), 1)
    values = np.log(pairs.data / (word[pairs.row] * context[pairs.col]))
    positive = values > 0
    return scipy.sparse.csr_matrix((values[positive], (pairs.row[positive], pairs.col[positive])), pairs.shape)


def ppmi_svd(
    tokens: np.ndarray,
    vocab_size: int,
    window: int = 4,
    smoothing: float = 0.75,
    dimensions: int = 128,
    excluded_ids: Sequence[int] = (),
    boundary_ids: Sequence[int] = (),
    center: bool = True,
    remove_components: int = 0,
) -> np.ndarray:
    """A vector of every token: U √S of the truncated SVD of the PPMI matrix. Deterministic.

    Args:
        tokens, vocab_size, window, excluded_ids, boundary_ids: as for `count_pairs`.
        smoothing: as for `ppmi`.
        dimensions: D.
        center, remove_components: as for `remove_common`, of the tokens with any positive association. The others, the
            excluded among them, keep the zero vector.

    Returns:
        [V, D] float32.

    Raises:
        UserError: more dimensions than the matrix has, or no pair at all.

    Source:
        Levy and Goldberg (2014) for the matrix, Levy, Goldberg and Dagan (2015) for the smoothing and √S.
    """
    if not 0 < dimensions < vocab_size:
        raise UserError(f"semantics.dimensions = {dimensions} for {vocab_size} tokens: choose 1 to {vocab_size - 1}")
    associations = ppmi(count_pairs(tokens, vocab_size, window, excluded_ids, boundary_ids), smoothing)
    if not associations.nnz:
        raise UserError("no two tokens of the text stand near each other more often than by chance: give more text")
    start = np.random.default_rng(0).standard_normal(vocab_size)
    left, strengths, _ = cast(Triple, scipy.sparse.linalg.svds(associations, k=dimensions, v0=start))
    largest = np.abs(left).argmax(0)
    left = left * np.where(left[largest, np.arange(dimensions)] < 0, -1.0, 1.0)  # a singular vector's sign is free
    vectors = (left * np.sqrt(np.maximum(strengths, 0)))[:, ::-1]
    known = np.diff(associations.indptr) > 0
    return remove_common(vectors, known, center, remove_components)


def remove_common(vectors: np.ndarray, known: np.ndarray, center: bool, components: int) -> np.ndarray:
    """The vectors less what most of them share, which tells frequency rather than meaning: the mean, then the top
    principal components.

    Args:
        vectors: [V, D].
        known: [V] bool, the tokens whose mean and components are taken; the others become zero.
        center: whether the mean is removed.
        components: how many directions are removed: those of largest variance about the mean, or of largest second
            moment where the mean stays.

    Returns:
        [V, D] float32.

    Raises:
        UserError: as many components as dimensions, which leaves nothing.

    Source:
        Mu and Viswanath (2018), "All-but-the-top".
    """
    dimensions = vectors.shape[1]
    if components >= dimensions:
        raise UserError(f"semantics.remove_components = {components} leaves none of {dimensions} dimensions: give less")
    kept = np.array(vectors, np.float64)
    if center:
        kept[known] -= kept[known].mean(0)
    if components:
        _, directions = np.linalg.eigh(kept[known].T @ kept[known])  # by rising eigenvalue
        top = directions[:, dimensions - components :]
        kept -= (kept @ top) @ top.T
    kept[~known] = 0
    return np.ascontiguousarray(kept, np.float32)
