"""Token vectors from the corpus itself: positive pointwise mutual information of neighboring tokens, then an SVD."""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from semdlm_jax.errors import UserError

CHUNK = 1 << 23  # tokens counted at a time: bounds memory on long streams


def count_pairs(tokens, vocab_size, window, excluded_ids=(), boundary_ids=()):
    """Symmetric counts [V, V], sparse float64: how often two tokens stand at most `window` places apart.

    tokens: [N] int stream. excluded_ids hold a place but are not counted. No pair reaches across a boundary id.
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


def ppmi(counts, smoothing):
    """max(0, log P(i,j) / (P(i) P_s(j))), sparse; the context distribution P_s ∝ (Σ_i counts[i, j])^smoothing."""
    counts = counts.tocoo()
    word = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** smoothing
    context /= max(context.sum(), 1)
    values = np.log(counts.data / (word[counts.row] * context[counts.col]))
    positive = values > 0
    return scipy.sparse.csr_matrix((values[positive], (counts.row[positive], counts.col[positive])), counts.shape)


def ppmi_svd(
    tokens,
    vocab_size,
    window=4,
    smoothing=0.75,
    dimensions=128,
    excluded_ids=(),
    boundary_ids=(),
    center=True,
    remove_components=0,
):
    """Vectors [V, dimensions] float32 of every token: U √S of the truncated SVD of the PPMI matrix.

    tokens, excluded_ids, boundary_ids: as for `count_pairs`. center, remove_components: as for `remove_common`, of the
    tokens with any positive association; the others, the excluded among them, keep the zero vector. Deterministic.
    UserError: more dimensions than the matrix has, or no pair at all.
    """
    if not 0 < dimensions < vocab_size:
        raise UserError(f"semantics.dimensions = {dimensions} for {vocab_size} tokens: choose 1 to {vocab_size - 1}")
    associations = ppmi(count_pairs(tokens, vocab_size, window, excluded_ids, boundary_ids), smoothing)
    if not associations.nnz:
        raise UserError("no two tokens of the text stand near each other more often than by chance: give more text")
    start = np.random.default_rng(0).standard_normal(vocab_size)
    left, strengths, _ = scipy.sparse.linalg.svds(associations, k=dimensions, v0=start)
    largest = np.abs(left).argmax(0)
    left = left * np.where(left[largest, np.arange(dimensions)] < 0, -1.0, 1.0)  # a singular vector's sign is free
    vectors = (left * np.sqrt(np.maximum(strengths, 0)))[:, ::-1]
    known = np.diff(associations.indptr) > 0
    return remove_common(vectors, known, center, remove_components)


def remove_common(vectors, known, center, components):
    """Vectors [V, D] float32 less what most of them share: the mean, then the top principal components ("all but the
    top"), which tell frequency rather than meaning.

    vectors: [V, D]. known: [V] bool, the tokens whose mean and components are meant; the others become zero.
    center: whether the mean goes. components: how many directions of largest variance about the mean, or of largest
    second moment where the mean stays. UserError: as many components as dimensions, which leaves nothing.
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
