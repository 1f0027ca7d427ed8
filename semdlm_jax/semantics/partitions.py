"""Nested partitions of a vocabulary: fine blocks of tokens, joined to coarser ones.

Blocks hold tokens of like meaning, by k-means of limited sizes: the finest of vectors, each coarser level of the sums
of the finer blocks. Cut the other way, from coarse to fine, the members of the finest blocks are less alike: a mean
cosine of 0.31 instead of 0.38 in the quickstart's 256 blocks. Tokens without a vector form blocks by their frequency.
Special tokens are one more block on every level, the last. The same vectors, counts and seed give the same blocks.
"""

from collections.abc import Sequence

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.semantics.kmeans import cluster, shares, sums_of
from semdlm_jax.semantics.settings import TableSettings

DEFAULT = TableSettings().levels


def fitting_levels(levels: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The levels whose blocks can hold two tokens each on average.

    Args:
        levels: numbers of blocks, from fine to coarse.
        tokens: of text.

    Returns:
        Those that fit: all of them, or of the default levels only some.

    Raises:
        UserError: levels that are not the default do not fit.
    """
    fitting = tuple(blocks for blocks in levels if 2 * blocks <= tokens)
    if len(fitting) < len(levels) and tuple(levels) != DEFAULT:
        raise UserError(
            f"semantics.blocks = {','.join(map(str, levels))!r} for {counted(tokens, 'token')} of text: "
            f"give at most {tokens // 2} blocks, or '' for none"
        )
    return fitting


def build_partitions(
    embeddings: np.ndarray,
    counts: np.ndarray,
    special: np.ndarray,
    levels: Sequence[int],
    kind: str = "kmeans",
    seed: int = 0,
) -> np.ndarray:
    """The block of every token on every level.

    Args:
        embeddings: [V, E], rows of unit length, or zero for a token without a meaning.
        counts: [V], occurrences in the training text.
        special: [V] bool, the tokens that are no text.
        levels: numbers of blocks of text, from fine to coarse, each less than the one before: (256, 64, 16).
        kind: a name of settings.PARTITIONS. random: blocks of the same sizes, with tokens of text drawn at random.
        seed: of the first centers, and of the random blocks.

    Returns:
        [P, V] int32, P levels from fine to coarse. The blocks of text are 0 to n - 1, and special tokens block n.

    Raises:
        UserError: more blocks than tokens of text.
    """
    special, rng = np.asarray(special, bool), np.random.default_rng(seed)
    text, known = np.flatnonzero(~special), np.any(embeddings, axis=1)
    if max(levels) > len(text):
        raise UserError(f"{max(levels)} blocks of {counted(len(text), 'token')} of text: give fewer blocks")
    tokens, others = text[known[text]], text[~known[text]]
    others = others[np.argsort(-np.asarray(counts)[others], kind="stable")]
    found = np.tile(np.array(levels, np.int32)[:, None], len(special))
    # What is joined: first tokens, then blocks. A token belongs to one of `vectors`, or to one of `ranks` parts.
    vectors, ranks = np.asarray(embeddings[tokens], np.float64), len(others)
    meaning, rank = np.arange(len(tokens)), np.arange(len(others))
    for level, blocks in zip(found, levels, strict=True):
        by_meaning, by_count = _shares_of_kinds(len(vectors), ranks, blocks)
        if by_meaning:
            joined = cluster(vectors, by_meaning, rng)
            vectors, meaning = sums_of(vectors, joined), joined[meaning]
        if by_count:
            ranks, rank = by_count, rank * by_count // ranks
        level[tokens] = meaning
        level[others] = by_meaning + rank if by_count else 0
    if kind == "random":
        found[:, text] = found[:, rng.permutation(text)]
    return found


def _shares_of_kinds(vectors, ranks, blocks):
    """(blocks by meaning, blocks by frequency), each in proportion to what is joined; one block holds both."""
    if not vectors or not ranks:
        return (blocks, 0) if vectors else (0, blocks)
    return (1, 0) if blocks == 1 else tuple(shares([vectors, ranks], blocks))
