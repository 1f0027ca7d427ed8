"""Nested partitions of a vocabulary: coarse blocks of tokens, cut into finer ones.

Blocks hold tokens of like meaning, by k-means of limited sizes. Tokens without a vector form blocks by their frequency.
Special tokens are one more block on every level, the last. The same vectors, counts and seed give the same blocks.
"""

from collections.abc import Callable, Sequence

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.semantics.kmeans import cluster, shares
from semdlm_jax.semantics.settings import TableSettings

Cut = Callable[[np.ndarray, int], list[np.ndarray]]  # (tokens, how many parts) -> that many parts, none empty
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
        embeddings: [V, E], of any length; zero for a token without a meaning.
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
    found = nested(special, levels, lambda tokens, parts: _cut(tokens, parts, embeddings, np.asarray(counts), rng))
    if kind == "random":
        text = np.flatnonzero(~special)
        found[:, text] = found[:, rng.permutation(text)]
    return found


def consecutive_partitions(special: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """As `build_partitions`, with blocks of consecutive tokens of almost equal sizes."""
    return nested(special, levels, np.array_split)


def nested(special: np.ndarray, levels: Sequence[int], cut: Cut) -> np.ndarray:
    """Partitions by a rule that cuts a block: the coarsest level is all of text cut, each other one its blocks cut.

    Args, returns and raises: as for `build_partitions`; cut gets rising tokens.
    """
    text = np.flatnonzero(~np.asarray(special, bool))
    if max(levels) > len(text):
        raise UserError(f"{max(levels)} blocks of {counted(len(text), 'token')} of text: give fewer blocks")
    groups, found = [text], np.empty((len(levels), len(special)), np.int32)
    for level in reversed(range(len(levels))):
        parts = shares([len(group) for group in groups], levels[level])
        groups = [np.sort(part) for group, count in zip(groups, parts, strict=True) for part in cut(group, count)]
        found[level] = len(groups)
        for block, group in enumerate(groups):
            found[level, group] = block
    return found


def _cut(tokens, parts, embeddings, counts, rng):
    """By meaning, and by count the tokens without a vector: blocks hold both only where there is one part."""
    known = np.any(embeddings[tokens], axis=1)
    with_vector, without = tokens[known], tokens[~known]
    if parts == 1:
        return [tokens]
    if not len(without):
        return _by_meaning(with_vector, parts, embeddings, rng)
    if not len(with_vector):
        return _by_count(without, parts, counts)
    by_meaning, by_count = shares([len(with_vector), len(without)], parts)
    return _by_meaning(with_vector, by_meaning, embeddings, rng) + _by_count(without, by_count, counts)


def _by_meaning(tokens, parts, embeddings, rng):
    found = cluster(embeddings[tokens], parts, rng)
    return [tokens[found == part] for part in range(parts)]


def _by_count(tokens, parts, counts):
    """Parts of equal sizes, the most frequent tokens in the first."""
    return np.array_split(tokens[np.argsort(-counts[tokens], kind="stable")], parts)
