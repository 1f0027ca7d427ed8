"""What a neighbor table holds, in words: neighbors with similarities, in-degrees, empty rows, hubs."""

import difflib

import numpy as np

from semdlm_jax.entropy import entropy
from semdlm_jax.errors import UserError

QUANTILES = (0.5, 0.9, 0.99, 1)


def summary(ids):
    """One line on the rows and in-degrees of ids [V, K], -1 where missing. In-degrees are those of tokens that have
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


def in_degrees(ids):
    """[V] int: the rows of ids [V, K] that hold each token."""
    return np.bincount(ids[ids >= 0], minlength=len(ids))


def describe(pieces, ids, unigram=None, words=12, shown=6):
    """The summary, and the neighbors of frequent content words. pieces: V strings. unigram: [V] occurrences in text;
    without them the first words of the vocabulary are shown."""
    unigram = np.zeros(len(ids)) if unigram is None else unigram
    marked = any(piece.startswith("▁") for piece in pieces)
    # Long pieces that start a word are content words, by and large.
    content = [i for i in np.argsort(-unigram, kind="stable") if ids[i, 0] >= 0 and len(plain(pieces[i])) > 5]
    content = [i for i in content if pieces[i].startswith("▁" if marked else "") and "##" not in pieces[i]][:words]
    lines = [
        f"  {plain(pieces[i]):>14} -> {' '.join(plain(pieces[j]) for j in ids[i, :shown] if j >= 0)}" for i in content
    ]
    return "\n".join([summary(ids), *lines])


def inspect(table, notes, words=(), shown=10, hubs=10):
    """The report of `python -m semdlm_jax.semantics.inspect`.

    table: Table. notes: Notes. words: as `find_piece` takes them. shown: neighbors of each. hubs: tokens of
    largest in-degree. UserError: a word that is no piece.
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


def prior(notes, shown=6):
    """One line on the unigram prior of Eq. 119. notes: Notes."""
    counts = np.where(notes.valid, notes.counts, 0)
    if not counts.any():
        return f"unigram prior: {notes.valid.sum()} tokens may be jumped to; built without a corpus to count them in"
    often = ", ".join(plain(notes.pieces[i]) for i in np.argsort(-counts, kind="stable")[:shown] if counts[i])
    return (
        f"unigram prior: {(counts > 0).sum()} tokens of {notes.valid.sum()} that may be jumped to occur, "
        f"{counts.sum() / notes.counts.sum():.1%} of the text; entropy {entropy(counts):.3f} nats; most often {often}"
    )


def plain(piece):
    """The piece without SentencePiece's mark of a word's beginning."""
    return piece.replace("▁", " ").strip() or repr(piece)


def find_piece(word, pieces):
    """The id of a piece as a reader writes it: `king` is the word, `##ing` the piece that goes on with one, in either
    kind of vocabulary; a piece spelled out exactly is found as well.

    UserError: no such piece, with the nearest.
    """
    place = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
    marked = any(piece.startswith("▁") for piece in pieces)
    if marked and word.startswith("##"):
        spellings = [word.removeprefix("##")]
    else:
        spellings = ["▁" + word, word] if marked else [word]
    for spelling in (*spellings, *map(str.lower, spellings)):
        if spelling in place:
            return place[spelling]
    near = difflib.get_close_matches(word, [plain(piece) for piece in pieces], n=3, cutoff=0.6)
    told = f"near are {', '.join(map(repr, near))}" if near else "words of several pieces have no row, give one piece"
    raise UserError(f"{word!r} is no piece of this vocabulary: {told}")
