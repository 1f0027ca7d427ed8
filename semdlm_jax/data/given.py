"""Splits that are given, as those of published data sets are: each its own files, none of them cut."""

import itertools
import os
from collections.abc import Mapping
from typing import NamedTuple

from semdlm_jax.data import splitting
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.documents import SPLITS, Corpus, Streamed
from semdlm_jax.data.files import Skipped
from semdlm_jax.data.matching import Reader, line_files, shards_of, text_files
from semdlm_jax.data.records import FIELD
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.options import counted

KINDS = {"text": text_files, "lines": line_files}


def check_sources(data) -> None:
    """UserError unless config.data names one source: data.corpus, or data.train with what belongs to it."""
    given = {split: spec for split, spec in _specs(data).items() if spec}
    first = next(iter(given), None)
    if data.corpus and first:
        raise UserError(
            f"data.corpus = {data.corpus!r} and data.{first} = {given[first]!r} are both given: a corpus is cut into "
            "its splits, so set data.corpus = '', or leave data.train, data.valid and data.test out"
        )
    if first and "train" not in given:
        raise UserError(f"data.{first} is given without data.train: give that, too")
    if not (data.corpus or given):
        raise UserError("data.corpus is empty: give a corpus, or data.train, data.valid and data.test")


def corpus_of(data) -> Corpus | Streamed:
    """The corpus that config.data names. UserError: as `check_sources`, `corpora.load_corpus` or `load_splits`."""
    check_sources(data)
    if data.train:
        return load_splits(_specs(data), data.field)
    return load_corpus(data.corpus, data)


def _specs(data):
    return {"train": data.train, "valid": data.valid, "test": data.test}


class Source(NamedTuple):
    """One split's files. read: (path, Skipped) -> documents; None for plain text, a document a file."""

    spec: str
    paths: tuple[str, ...]
    read: Reader | None

    def check(self, split: str) -> None:
        """UserError unless every file can be read from its begin, and there is a document: asked before long work."""
        firsts = [next(iter(shard.read(Skipped())), None) for shard in shards_of(self.paths, self.read, split)]
        if not any(firsts):
            raise UserError(f"data.{split} = {self.spec!r} holds no text: give files with text")


def load_splits(given: Mapping[str, str], field: str = FIELD) -> Streamed:
    """The corpus of splits that a configuration gives one by one.

    A valid or test split that is not given is drawn from train by documents, where its files hold many: about 5 % of
    them, or less of a large one. A document and its copies stay together.

    Args:
      given: {split: a spec 'text:…' or 'lines:…', '' for none}.
      field: what holds the text in files of many documents.

    Raises:
      UserError: no train split, files that train shares with another split, a split to be drawn from files of plain
        text, a split without text; and what `corpora.load_corpus` says of files.
    """
    sources = {split: _open(split, given[split], field) for split in SPLITS if given[split]}
    _check_apart(sources)
    train = sources["train"]
    missing = tuple(split for split in SPLITS if split not in sources)
    if missing and train.read is None:
        raise UserError(
            f"data.{missing[0]} is not given, and it is drawn from files of many documents alone, which "
            f"data.train = {train.spec!r} is not: give data.{missing[0]}"
        )
    for split, source in sources.items():
        source.check(split)
    fraction = splitting.held_out_fraction(sum(map(os.path.getsize, train.paths)))

    def shards():
        for split, source in sources.items():
            drawn = missing and split == "train"
            yield from shards_of(source.paths, source.read, None if drawn else split, fraction, missing)

    origin = [f"{split}: {counted(len(source.paths), 'file')} of {source.spec}" for split, source in sources.items()]
    if shared := _shared(sources.get("valid"), sources.get("test")):
        origin.append(f"valid and test both read {shared[0]}" + f" and {len(shared) - 1} more" * bool(shared[1:]))
    origin += [f"{split}: drawn from train, {fraction:.2%} of its documents" for split in missing]
    named = {split: source.spec for split, source in sources.items()}
    paths = tuple(itertools.chain(*(source.paths for source in sources.values())))
    about = {"name": train.spec, "origin": "; ".join(origin), "files": paths}
    return Streamed.of_shards(shards, Skipped(), **about, given=named, options={"field": field})


def _open(split, spec, field):
    kind, _, pattern = spec.partition(":")
    if kind not in KINDS:
        raise UserError(
            f"data.{split} = {spec!r}: {nearest(kind, KINDS)}: files alone are given split by split, what else "
            "data.corpus takes is split already"
        )
    return Source(spec, *KINDS[kind](spec, pattern, field))


def _check_apart(sources):
    """UserError where a file of train is one of another split, too: scores on it would be of what was learned."""
    for split in ("valid", "test"):
        if shared := _shared(sources["train"], sources.get(split)):
            raise UserError(
                f"data.train and data.{split} both read {shared[0]}"
                + (f" and {counted(len(shared) - 1, 'more file')}" if shared[1:] else "")
                + ": give each split files of its own"
            )


def _shared(one, other):
    """Paths of one source that are files of another, too; of none where one is None."""
    if one is None or other is None:
        return []
    files = {os.path.realpath(path) for path in other.paths}
    return [path for path in one.paths if os.path.realpath(path) in files]
