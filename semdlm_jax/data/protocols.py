"""Protocols: how a stream `[begin] doc [end] [begin] doc [end] …` becomes rows of L tokens. Scores under different
protocols do not compare.

A row is (tokens [L] int32, mask [L] bool); the mask is False on padding, which only ever ends a row. Rows for training
are read by their number in the epoch, from a stream that is cut at other places in each epoch; rows for scoring are one
ordered pass.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.errors import UserError, choose
from semdlm_jax.options import counted


def document_starts(tokens: np.ndarray, bos_id: int) -> np.ndarray:
    """[D + 1] int64: where each document of a stream starts, and the stream's end."""
    return np.append(np.flatnonzero(np.asarray(tokens) == bos_id), len(tokens))


@dataclasses.dataclass(frozen=True)
class Rows(abc.ABC):
    """What the protocols share.

    Attributes:
      tokens: [N] int, the stream, with a begin and an end token around every document.
      starts: [D + 1] int, where documents start and the stream ends.
      length: L, tokens of a row.
      bos_id, eos_id, pad_id: of the vocabulary.
    """

    tokens: np.ndarray
    starts: np.ndarray
    length: int
    bos_id: int
    eos_id: int
    pad_id: int

    name: ClassVar[str]
    padded = False  # whether rows of training hold padding, so that attention needs their lengths
    has_bos_eos = False  # whether every row stands between a begin and an end token
    lost = 0  # tokens of the stream that are in no row of an ordered pass

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Rows of an epoch of training."""

    @property
    @abc.abstractmethod
    def ordered_count(self) -> int:
        """Rows of one ordered pass."""

    @abc.abstractmethod
    def training_row(self, place: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """Row `place` of an epoch, 0 <= place < count. shift: of the epoch's cuts, any integer >= 0; a protocol that
        cuts nowhere ignores it."""

    @abc.abstractmethod
    def ordered_row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Row `index` of the ordered pass, 0 <= index < ordered_count."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The protocol in a line, for a report."""

    @property
    def inner_special_ids(self) -> tuple[int, ...]:
        """Ids of begin and end tokens that stand among the text of a row."""
        return ()

    @property
    def max_text_len(self) -> int:
        """Tokens of text that a row can hold."""
        return self.length - 2 * self.has_bos_eos

    @property
    def sizes(self) -> np.ndarray:
        """[N] int, rising: tokens of whole rows, padding left out, as often as they occur."""
        return np.array([self.length])

    def frame(self, inner: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([L] tokens, [L] mask) of a row with such text, at most `max_text_len` tokens."""
        return self._row([self.bos_id, *inner, self.eos_id] if self.has_bos_eos else inner)

    def _row(self, tokens):
        row = np.full(self.length, self.pad_id, np.int32)
        row[: len(tokens)] = tokens
        return row, np.arange(self.length) < len(tokens)


class Packed(Rows):
    """The stream cut every L tokens, wherever documents end.

    In training the stream is a ring whose first cut moves from epoch to epoch, so that no text always lies at the edge
    of a row.
    """

    name = "packed"

    @property
    def inner_special_ids(self):
        return (self.bos_id, self.eos_id)

    @property
    def count(self):
        return len(self.tokens) // self.length

    @property
    def ordered_count(self):
        return -(-len(self.tokens) // self.length)

    def training_row(self, place, shift):
        start = (shift + place * self.length) % len(self.tokens)
        return self._row(_ring(self.tokens, start, self.length))

    def ordered_row(self, index):
        return self._row(self.tokens[index * self.length : (index + 1) * self.length])

    def describe(self):
        return f"packed: windows of {self.length} tokens of documents end to end, begin and end tokens scored"


class Wrapped(Rows):
    """MDLM's `wrap`: documents, each with its end token, joined and cut every L - 2 tokens; every row begins with the
    begin token and ends with the end token. Unlike MDLM's, the last row is kept, shorter, and the cuts of training
    move from epoch to epoch."""

    name = "wrapped"
    has_bos_eos = True

    @property
    def inner_special_ids(self):
        return (self.eos_id,)

    @functools.cached_property
    def _content(self):
        """[D + 1]: where documents start once begin tokens are left out, and the end."""
        return self.starts - np.arange(len(self.starts))

    @property
    def count(self):
        return int(self._content[-1]) // (self.length - 2)

    @property
    def ordered_count(self):
        return -(-int(self._content[-1]) // (self.length - 2))

    def training_row(self, place, shift):
        inside, total = self.length - 2, int(self._content[-1])
        start = (shift + place * inside) % total
        return self.frame(np.concatenate([self._cut(start, inside), self._cut(0, start + inside - total)]))

    def ordered_row(self, index):
        return self.frame(self._cut(index * (self.length - 2), self.length - 2))

    def describe(self):
        return (
            f"wrapped: documents end to end in rows of {self.length} tokens, each between a begin and an end token, "
            "which are scored"
        )

    def _cut(self, start, count):
        """At most `count` tokens from content place `start` on."""
        if count <= 0:
            return self.tokens[:0]
        document = np.searchsorted(self._content, start, side="right") - 1
        first = start + int(document) + 1
        # Every document has an end token for its begin token, so half of any stretch is content.
        stretch = np.asarray(self.tokens[first : first + 2 * count])
        return stretch[stretch != self.bos_id][:count]


class Padded(Rows):
    """A document a row, `[begin] doc [end]` and padding. Of a document longer than L - 2 tokens, the first L - 2 stay;
    `lost` counts the others."""

    name = "padded"
    padded = has_bos_eos = True

    @property
    def sizes(self):
        return np.sort(np.minimum(np.diff(self.starts), self.length))  # in no order: a draw depends on nothing else

    @property
    def count(self):
        return len(self.starts) - 1

    @property
    def ordered_count(self):
        return len(self.starts) - 1

    @functools.cached_property
    def lost(self):
        """Tokens of the stream that are in no row."""
        return lost_to_padding(self.starts, self.length)

    def training_row(self, place, shift):
        del shift
        return self.ordered_row(place)

    def ordered_row(self, index):
        document = self.tokens[self.starts[index] : self.starts[index + 1]]
        if len(document) <= self.length:
            return self._row(document)
        return self._row(np.append(document[: self.length - 1], self.eos_id))

    def describe(self):
        share = 100 * self.lost / max(len(self.tokens), 1)
        return (
            f"padded: a document a row of {self.length} tokens, given its length; "
            "begin and end tokens scored, padding not; "
            f"{counted(self.lost, 'token')} ({share:.2f} %) beyond that length left out"
        )


PROTOCOLS = {protocol.name: protocol for protocol in (Packed, Wrapped, Padded)}


@dataclasses.dataclass(frozen=True)
class SomeRows(Rows):
    """Some rows of an ordered pass, as an ordered pass of their own. rows: all of them; indices: which."""

    rows: Rows
    indices: np.ndarray

    @classmethod
    def evenly(cls, rows: Rows, number: int) -> "SomeRows":
        """So many rows, evenly spaced from the first on."""
        indices = np.arange(number) * rows.ordered_count // number
        own = {field.name: getattr(rows, field.name) for field in dataclasses.fields(Rows)}
        return cls(**own, rows=rows, indices=indices)

    @property
    def name(self):
        return self.rows.name

    @property
    def count(self):
        return self.rows.count

    @property
    def ordered_count(self):
        return len(self.indices)

    def training_row(self, place, shift):
        return self.rows.training_row(place, shift)

    def ordered_row(self, index):
        return self.rows.ordered_row(int(self.indices[index]))

    def describe(self):
        return self.rows.describe()


def documents_of(tokens: np.ndarray, tokenizer: Tokenizer) -> list[np.ndarray]:
    """Tokens [N], cut before every begin and end token."""
    return np.split(tokens, np.flatnonzero((tokens == tokenizer.bos_id) | (tokens == tokenizer.eos_id)))


def read_row(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    """The text of a row's tokens, each document that is in it on a line of its own."""
    texts = [tokenizer.decode(part) for part in documents_of(np.asarray(tokens), tokenizer)]
    return "\n".join(text for text in texts if text)


def lost_to_padding(starts: np.ndarray, length: int) -> int:
    """Tokens that rows of L = length cannot hold of documents that start at `starts` [D + 1]."""
    lengths = np.diff(starts)
    return int((lengths[lengths > length] - length).sum())


def make_rows(
    name: str, tokens: np.ndarray, length: int, tokenizer: Tokenizer, starts: np.ndarray | None = None
) -> Rows:
    """The rows of a stream of tokens.

    Args:
      name: of PROTOCOLS.
      tokens: [N], the stream.
      length: L, tokens of a row.
      tokenizer: of the tokens.
      starts: [D + 1], where documents start and the stream ends; None to find them.

    Raises:
      UserError: unknown protocol, or rows too short for a begin and an end token.
    """
    protocol = choose("protocol", name, PROTOCOLS)
    if length < 3:
        raise UserError(f"data.length = {length} leaves no room between a begin and an end token: give 3 or more")
    tokens = np.asarray(tokens)  # a plain view: slicing a memmap object is several times slower
    starts = document_starts(tokens, tokenizer.bos_id) if starts is None else np.asarray(starts)
    return protocol(tokens, starts, length, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)


def _ring(tokens, start, length):
    """[length]: the stream from `start`, taken as a ring."""
    window = tokens[start : start + length]
    if len(window) < length:
        window = np.concatenate([window, tokens[: length - len(window)]])
    return window
