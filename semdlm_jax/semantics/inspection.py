"""A neighbor table in words: neighbors with similarities, in-degrees, empty rows, hubs."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from semdlm_jax.entropy import entropy
from semdlm_jax.errors import UserError
from semdlm_jax.semantics.table import Notes, Table

QUANTILES = (0.5, 0.9, 0.99, 1)


def summary(ids: np.ndarray) -> str:
    """One line on the rows and in-degrees of ids [V, K] as a Table has them. In-degrees are those of tokens that have
    neighbors themselves."""
    filled = ids[:, 0] >= 0
    in_degree = in_degrees(ids)[filled]
    median, high, higher, top = np.quantile(in_degree, QUANTILES) if filled.any() else (0,) * len(QUANTILES)
    mean = (ids[filled] >= 0).sum(1).mean() if filled.any() else 0
    return (
        f"{len(ids)} rows, {(~filled).sum()} empty, {mean:.1f} neighbors in the others; "
        f"in-degree median {median:.0f}, 90 % {high:.0f}, 99 % {higher:.0f}, largest {top:.0f}, "
        f"in no list {(in_degree == 0).sum()}"
    )


def in_degrees(ids: np.ndarray) -> np.ndarray:
    """[V] int: the rows of ids [V, K] that hold each token."""
    return np.bincount(ids[ids >= 0], minlength=len(ids))


def describe(
    pieces: Sequence[str], ids: np.ndarray, unigram: np.ndarray | None = None, words: int = 12, shown: int = 6
) -> str:
    """The summary, and the neighbors of frequent content words.

    Args:
        pieces: V strings as the vocabulary spells them.
        ids: [V, K], as a Table has them.
        unigram: [V] occurrences in text; None: the first words of the vocabulary are shown.
        words: how many are shown.
        shown: neighbors of each.
    """
    unigram = np.zeros(len(ids)) if unigram is None else unigram
    marked = any(piece.startswith("▁") for piece in pieces)
    # Most long pieces that start a word are content words.
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
        table, notes: of one file.
        words: as `find_piece` takes them.
        shown: neighbors of each word.
        hubs: how many of the tokens of largest in-degree are named.

    Raises:
        UserError: a word that is no piece.
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
        told = ", ".join(row) or "no neighbors: a special token, punctuation, too rare, or without a vector"
        lines.append(f"  {word:>14} ({plain(pieces[i])}, in {in_degree[i]} lists) -> {told}")
    strongest = np.argsort(-in_degree, kind="stable")[:hubs]
    told = ", ".join(f"{plain(pieces[i])} {in_degree[i]}" for i in strongest if in_degree[i])
    return "\n".join([*lines, summary(table.ids), f"strongest hubs: {told or 'none'}", prior(notes)])


def prior(notes: Notes, shown: int = 6) -> str:
    """One line on the unigram prior of Eq. 119, with its `shown` most frequent tokens."""
    counts = np.where(notes.valid, notes.counts, 0)
    if not counts.any():
        return f"unigram prior: {notes.valid.sum()} tokens may be jumped to; built without a corpus to count them in"
    often = ", ".join(plain(notes.pieces[i]) for i in np.argsort(-counts, kind="stable")[:shown] if counts[i])
    return (
        f"unigram prior: {(counts > 0).sum()} tokens of {notes.valid.sum()} that may be jumped to occur, "
        f"{counts.sum() / notes.counts.sum():.1%} of the text; entropy {entropy(counts):.3f} nats; most often {often}"
    )


def plain(piece: str) -> str:
    """The piece without SentencePiece's mark of a word's beginning."""
    return piece.replace("▁", " ").strip() or repr(piece)


def find_piece(word: str, pieces: Sequence[str]) -> int:
    """The id of a piece as a reader writes it, in either kind of vocabulary.

    Args:
        word: `king` for the word, `##ing` for the piece that continues one, or a piece spelled as the vocabulary does.
        pieces: V strings.

    Raises:
        UserError: there is no such piece; the message has the nearest.
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
    told = f"near are {', '.join(map(repr, near))}" if near else "words of several pieces have no row, give one piece"
    raise UserError(f"{word!r} is no piece of this vocabulary: {told}")
