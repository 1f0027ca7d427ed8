"""Reports on a neighbor table: neighbors with similarities, in-degrees, empty rows, hubs."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from semdlm_jax.entropy import entropy
from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.semantics.table import Notes, Table

QUANTILES = (0.5, 0.9, 0.99, 1)


def summary(ids: np.ndarray) -> str:
    """One line on the rows and in-degrees of ids [V, K], as in a Table. Only tokens that have neighbors themselves are
    counted in the in-degrees."""
    filled = ids[:, 0] >= 0
    in_degree = in_degrees(ids)[filled]
    median, high, higher, top = np.quantile(in_degree, QUANTILES) if filled.any() else (0,) * len(QUANTILES)
    mean = (ids[filled] >= 0).sum(1).mean() if filled.any() else 0
    return (
        f"{counted(len(ids), 'token')}: {(~filled).sum():,} without neighbors, the others with {mean:.1f} on average; "
        f"in-degree median {median:.0f}, 90 % {high:.0f}, 99 % {higher:.0f}, largest {top:.0f}; "
        f"{counted(int((in_degree == 0).sum()), 'token')} in no neighbor list"
    )


def in_degrees(ids: np.ndarray) -> np.ndarray:
    """[V] int: the rows of ids [V, K] that hold each token."""
    return np.bincount(ids[ids >= 0], minlength=len(ids))


def describe(
    pieces: Sequence[str], ids: np.ndarray, unigram: np.ndarray | None = None, words: int = 12, shown: int = 6
) -> str:
    """The summary, and the neighbors of frequent content words.

    Args:
        pieces: V strings, as in the vocabulary.
        ids: [V, K], as in a Table.
        unigram: [V], how often each token occurs in text; if None, the first words of the vocabulary are shown.
        words: how many words are shown.
        shown: how many neighbors of each.
    """
    unigram = np.zeros(len(ids)) if unigram is None else unigram
    marked = any(piece.startswith("▁") for piece in pieces)
    # Of the pieces that start a word, most of the long ones are content words.
    by_frequency: list[int] = np.argsort(-unigram, kind="stable").tolist()
    content = [i for i in by_frequency if ids[i, 0] >= 0 and len(plain(pieces[i])) > 5]
    content = [i for i in content if pieces[i].startswith("▁" if marked else "") and "##" not in pieces[i]][:words]
    near: list[list[int]] = [[j for j in ids[i, :shown].tolist() if j >= 0] for i in content]
    told = [" ".join(plain(pieces[j]) for j in row) for row in near]
    lines = [f"  {plain(pieces[i]):>14} -> {row}" for i, row in zip(content, told, strict=True)]
    return "\n".join([summary(ids), *lines])


def inspect(table: Table, notes: Notes, words: Iterable[str] = (), shown: int = 10, hubs: int = 10) -> str:
    """The report of `python -m semdlm_jax.semantics.inspect`.

    Args:
        table, notes: of the same file.
        words: as in `find_piece`.
        shown: how many neighbors of each word are shown.
        hubs: how many of the tokens with the largest in-degrees are shown.

    Raises:
        UserError: a word is not a piece of the vocabulary.
    """
    pieces = notes.pieces
    found = [(word, find_piece(word, pieces)) for word in words]
    in_degree = in_degrees(table.ids)
    lines = []
    for word, i in found:
        row = [
            f"{plain(pieces[j])} {similarity:.2f}"
            for j, similarity in zip(table.ids[i, :shown], table.similarities[i, :shown], strict=True)
            if j >= 0
        ]
        told = (
            ", ".join(row) or "no neighbors, because it is a special token, punctuation, too rare, or without a vector"
        )
        lines.append(f"  {word:>14} ({plain(pieces[i])}, in {counted(int(in_degree[i]), 'list')}) -> {told}")
    strongest = np.argsort(-in_degree, kind="stable")[:hubs]
    told = ", ".join(f"{plain(pieces[i])} {in_degree[i]}" for i in strongest if in_degree[i])
    return "\n".join([*lines, summary(table.ids), f"largest hubs: {told or 'none'}", prior(notes)])


def prior(notes: Notes, shown: int = 6) -> str:
    """One line on the unigram prior of Eq. 119, with its `shown` most frequent tokens."""
    counts = np.where(notes.valid, notes.counts, 0)
    if not counts.any():
        return f"unigram prior: {counted(int(notes.valid.sum()), 'possible token')}; no counts, as there was no corpus"
    possible = counted(int(notes.valid.sum()), "possible token")
    often = ", ".join(plain(notes.pieces[i]) for i in np.argsort(-counts, kind="stable")[:shown] if counts[i])
    return (
        f"unigram prior: {possible}, {(counts > 0).sum():,} of them in the text, "
        f"{counts.sum() / notes.counts.sum():.1%} of it; entropy {entropy(counts):.3f} nats; most frequent {often}"
    )


def plain(piece: str) -> str:
    """The piece without SentencePiece's mark for the start of a word."""
    return piece.replace("▁", " ").strip() or repr(piece)


def find_piece(word: str, pieces: Sequence[str]) -> int:
    """The id of a piece that a user has typed, in either kind of vocabulary.

    Args:
        word: `king` for the word, `##ing` for the piece that continues a word, or a piece as the vocabulary spells it.
        pieces: V strings.

    Raises:
        UserError: there is no such piece; the message suggests similar ones.
    """
    ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
    marked = any(piece.startswith("▁") for piece in pieces)
    if marked and word.startswith("##"):
        spellings = [word.removeprefix("##")]
    else:
        spellings = ["▁" + word, word] if marked else [word]
    for spelling in (*spellings, *map(str.lower, spellings)):
        if spelling in ids:
            return ids[spelling]
    near = difflib.get_close_matches(word, [plain(piece) for piece in pieces], n=3, cutoff=0.6)
    told = f"similar pieces are {', '.join(map(repr, near))}" if near else "give a word that is a single piece"
    raise UserError(f"{word!r} is not a piece of this vocabulary: {told}")
