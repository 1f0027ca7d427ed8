"""How generated texts repeat themselves, one another and the training text.

Texts are rows of tokens: token ids, or words (`quality.words`: lower case, without punctuation). Their n-grams are
numbered exactly, not hashed: an n-gram is the number of the first n - 1 tokens and the last token.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from semdlm_jax import extras

Rows = Sequence[Sequence[int] | Sequence[str] | np.ndarray]
ORDERS = 4  # of BLEU
SMOOTHING = 0.1  # what counts for no match
MOST_TEXTS = 1000  # of self-BLEU
TOKENS_AT_ONCE = 2**22  # of the training text


def repetition(rows: Rows, n: int) -> np.ndarray:
    """Rep-n of every row that has n-grams: 1 - different n-grams / all n-grams of the row.

    Args:
        rows: tokens. The longer a row, the more it repeats: compare equal lengths only.
        n: tokens of an n-gram.

    Returns:
        [M], 0 to 1, of the M rows with at least n tokens, in their order.

    Source: Welleck et al., Neural Text Generation with Unlikelihood Training (2020, arXiv 1908.04319):
    seq-rep-n, over whole rows.
    """
    *_, grams = _numbered(rows, n)
    counts = np.bincount(grams.owners, minlength=len(rows))
    different = np.bincount(grams.counted(len(rows))[1], minlength=len(rows))
    return 1 - different[counts > 0] / counts[counts > 0]


class _Grams(NamedTuple):
    """All n-grams of rows: the row [G] of each and its number [G], equal for equal n-grams."""

    owners: np.ndarray
    numbers: np.ndarray

    def counted(self, rows):
        """(number, row, how often) of every different n-gram of every row, by number."""
        pairs, counts = np.unique(self.numbers * rows + self.owners, return_counts=True)
        return pairs // rows, pairs % rows, counts


def _numbered(rows, most) -> Iterator[_Grams]:
    """The n-grams of rows for n = 1 to `most`."""
    tokens, owners = _joined(rows, {})
    starts = np.flatnonzero(tokens >= 0)
    numbers, size = tokens[starts], tokens.max(initial=0) + 1
    for n in range(1, most + 1):
        yield _Grams(owners[starts], numbers)
        starts, numbers = _longer(starts, numbers, tokens, n, size)
        numbers = np.unique(numbers, return_inverse=True)[1]


def _joined(rows, known, grow=True):
    """(numbers of tokens, their rows), both [T], with -1 after each row.

    known: {token: number}, which `grow` extends; without it, tokens that are not known are -1, too.
    """
    found, owners = [], []
    for index, row in enumerate(rows):
        row = row.tolist() if isinstance(row, np.ndarray) else row
        number = (known.setdefault(token, len(known)) for token in row) if grow else (known.get(t, -1) for t in row)
        found += [*number, -1]
        owners += [index] * (len(row) + 1)
    return np.array(found, np.int64), np.array(owners, np.int64)


def self_bleu(rows: Rows, *, seed: int, most: int = MOST_TEXTS) -> np.ndarray:
    """BLEU-4 of each text against all the others: high where texts are alike.

    The geometric mean of the precisions of 1- to 4-grams, each count cut off at the largest of another text, times
    the brevity penalty for the nearest length of another text. 0 matches count as 0.1 (NLTK's method 1, sacrebleu's
    `floor`), and a text of less than 4 tokens has fewer precisions. Tokens are those of the rows. More texts give a
    higher value: compare equal numbers only.

    Args:
        rows: tokens; empty rows are left out.
        seed: of the texts that are kept.
        most: if there are more texts, so many are kept.

    Returns:
        [M], 0 to 1, of the texts kept, in their order; [0] for less than two.

    Raises:
        UserError: sacrebleu, whose formula this is, is missing.

    Source: Zhu et al., Texygen (2018, arXiv 1802.01886); Papineni et al., BLEU (2002).
    """
    extras.require("sacrebleu", use="self-BLEU")
    from sacrebleu.metrics.bleu import BLEU  # pyright: ignore[reportMissingImports]  # an extra

    rows = [row for row in rows if len(row)]
    if len(rows) > most:
        kept = np.random.default_rng(seed).choice(len(rows), most, replace=False)
        rows = [rows[i] for i in np.sort(kept)]
    if len(rows) < 2:
        return np.zeros(0)
    lengths = np.array([len(row) for row in rows])
    correct = np.stack([_matches(grams, len(rows)) for grams in _numbered(rows, ORDERS)], axis=1)
    total = np.maximum(lengths[:, None] - np.arange(ORDERS), 0)
    found = [
        BLEU.compute_bleu(
            [*map(int, matched)], [*map(int, grams)], int(length), _nearest(lengths, index),
            smooth_method="floor", smooth_value=SMOOTHING, effective_order=True,
        ).score
        for index, (matched, grams, length) in enumerate(zip(correct, total, lengths, strict=True))
    ]  # fmt: skip
    return np.array(found) / 100


def _matches(grams, rows):
    """[rows]: how many n-grams of each row are matched: each at most as often as another row has it."""
    numbers, owners, counts = grams.counted(rows)
    order = np.lexsort((-counts, numbers))
    numbers, owners, counts = numbers[order], owners[order], counts[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    sizes = np.diff(starts, append=len(numbers))
    others = np.repeat(counts[starts], sizes)  # the largest count of each n-gram
    others[starts] = np.where(sizes > 1, np.append(counts, 0)[starts + 1], 0)  # the next, for the row that has that one
    return np.bincount(owners, np.minimum(counts, others), rows)


def _nearest(lengths, index):
    """The length of another row that is nearest to that of this one; of two, the shorter."""
    others = np.delete(lengths, index)
    return int(others[np.lexsort((others, np.abs(others - lengths[index])))[0]])


def copied(rows: Rows, train: Iterable[Sequence[int] | Sequence[str] | np.ndarray]) -> list[np.ndarray]:
    """How far the training text is copied from every place of the rows.

    Args:
        rows: tokens.
        train: rows of the same kind of tokens, read once, 4 million tokens at a time. No n-gram reaches from one of
            them into the next.

    Returns:
        An array [tokens of the row] a row: the length of the longest n-gram that begins there and occurs in train.
        `novel` and `longest` are read off it.
    """
    known: dict = {}
    tokens, owners = _joined(rows, known)
    found = np.zeros(len(tokens), np.int64)
    for part in _parts(train):
        found = np.maximum(found, _copied(tokens, _joined(part, known, grow=False)[0], len(known)))
    ends = np.flatnonzero(np.diff(owners)) + 1
    return [each[:-1] for each in np.split(found, ends)] if len(rows) else []


def _parts(train):
    """Lists of rows of about TOKENS_AT_ONCE tokens together."""
    part, size = [], 0
    for row in train:
        part.append(row)
        size += len(row)
        if size >= TOKENS_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _copied(tokens, train, size):
    """[T]: the length of the longest n-gram of `tokens` from each place on that occurs in `train`; -1 ends both."""
    found = np.zeros(len(tokens), np.int64)
    starts, there = np.flatnonzero(tokens >= 0), np.flatnonzero(train >= 0)
    numbers, others = tokens[starts], train[there]
    n = 1
    while len(starts):
        different, numbers = np.unique(numbers, return_inverse=True)
        place = np.minimum(np.searchsorted(different, others), len(different) - 1)
        hit = different[place] == others
        there, others = there[hit], place[hit]
        occurs = np.zeros(len(different), bool)
        occurs[others] = True
        starts, numbers = starts[occurs[numbers]], numbers[occurs[numbers]]
        found[starts] = n
        starts, numbers = _longer(starts, numbers, tokens, n, size)
        there, others = _longer(there, others, train, n, size)
        n += 1
    return found


def _longer(starts, numbers, tokens, n, size):
    """The n-grams that are followed by a token, with it."""
    last = tokens[starts + n]
    return starts[last >= 0], (numbers * size + last)[last >= 0]


def novel(copies: Sequence[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """n-grams that do not occur in train.

    Args:
        copies: of `copied`.
        n: tokens of an n-gram.

    Returns:
        ([N], [N]): new n-grams and all n-grams of every row. `intervals.ratio` of both is the share of new ones.
    """
    grams = [each[: max(len(each) - n + 1, 0)] for each in copies]
    return np.array([(each < n).sum() for each in grams], int), np.array([len(each) for each in grams], int)


def longest(copies: Sequence[np.ndarray]) -> np.ndarray:
    """[N]: tokens of the longest part of each row that occurs in train."""
    return np.array([each.max(initial=0) for each in copies], int)
