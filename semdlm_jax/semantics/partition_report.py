"""Reports on the partitions of a table: sizes of blocks, how alike their members are, and the block of a word."""

from collections.abc import Iterable, Iterator

import numpy as np

from semdlm_jax.options import counted
from semdlm_jax.semantics.inspection import find_piece, plain
from semdlm_jax.semantics.table import COMMAND, Notes, Table

SHOWN = 2  # most and least coherent blocks of a level


def coherence(blocks: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """How alike the members of every block are.

    Args:
        blocks: [V] int, 0 to n - 1.
        embeddings: [V, E], rows of unit length, or zero for a token without a vector.

    Returns:
        [n], the mean cosine of two different members that have a vector, whose expectation does not depend on the size
        of a block; nan where fewer than two have one.
    """
    known = embeddings.any(1)
    sums = np.zeros((blocks.max() + 1, embeddings.shape[1]))
    np.add.at(sums, blocks[known], embeddings[known])
    members = np.bincount(blocks[known], minlength=len(sums))
    pairs = members * (members - 1.0)
    return np.divide((sums**2).sum(1) - members, pairs, out=np.full(len(sums), np.nan), where=pairs > 0)


def summary(table: Table) -> str:
    """A line a level: sizes of its blocks of text, and how alike two tokens of one block are."""
    return "\n".join(_level(table, level) for level in range(0 if table.partitions is None else len(table.partitions)))


def inspect(table: Table, notes: Notes, words: Iterable[str] = (), shown: int = 10) -> str:
    """The blocks of words, then the summary with the most and the least coherent blocks of every level.

    Args:
        table, notes: of the same file.
        words: as in `inspection.find_piece`.
        shown: how many members of a block are shown, the most frequent first.

    Raises:
        UserError: a word is not a piece of the vocabulary.
    """
    if table.partitions is None:
        return f"no partitions: give semantics.blocks and build the table again with {COMMAND}"
    lines = []
    for word in words:
        token = find_piece(word, notes.pieces)
        lines.append(f"  {word:>14} ({plain(notes.pieces[token])}) lies in")
        lines += [_block(table, notes, level, blocks[token], shown) for level, blocks in enumerate(table.partitions)]
    for level in range(len(table.partitions)):
        lines += [_level(table, level), *_extremes(table, notes, level, shown)]
    return "\n".join(lines)


def _level(table, level):
    blocks = table.partitions[level]
    sizes, alike = np.bincount(blocks)[:-1], coherence(blocks, table.embeddings)[:-1]  # the last: special tokens
    told = (
        f"{counted(len(sizes), 'block')} of text: {sizes.min():,} to {counted(int(sizes.max()), 'token')}, median "
        f"{np.median(sizes):g}"
    )
    if (there := np.isfinite(alike)).any():
        chance = coherence(np.zeros_like(blocks), table.embeddings)[0]
        mean = np.average(alike[there], weights=sizes[there])
        told += f"; mean cosine of two tokens of a block {mean:.3f}, of two at random {chance:.3f}"
    if not there.all():
        told += f"; {(~there).sum():,} of them by frequency"
    return told


def _extremes(table, notes, level, shown) -> Iterator[str]:
    """Lines on the most and the least coherent blocks of a level."""
    alike = coherence(table.partitions[level], table.embeddings)[:-1]
    order = np.argsort(-alike, kind="stable")[: np.isfinite(alike).sum()].tolist()  # nan comes last
    least = order[SHOWN:][-SHOWN:]
    for what, found in (("most coherent", order[:SHOWN]), ("least coherent", least)):
        yield from (
            f"  {what}, {alike[block]:.2f}: {_block(table, notes, level, block, shown).strip()}" for block in found
        )


def _block(table, notes, level, block, shown):
    blocks = table.partitions[level]
    members = np.flatnonzero(blocks == block)
    often = members[np.argsort(-notes.counts[members], kind="stable")[:shown]]
    told = ", ".join(plain(notes.pieces[i]) for i in often) + ", …" * (len(members) > shown)
    text = blocks.max()  # blocks of text; their numbers are below
    name = "special tokens" if block == text else f"block {block} of {text}"
    return f"    {name} ({counted(len(members), 'token')}): {told}"
