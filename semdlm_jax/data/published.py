"""The seven data sets of the field's zero-shot tables, each read as MDLM reads it: where they lie, and how their text
becomes documents.

Equal to MDLM for all seven: the split, what a document is, and the replacements of `detokenizing`. `WRAPPED` says how
documents become rows, and what of that differs.
"""

import dataclasses
from collections.abc import Callable, Iterator

from semdlm_jax.data import detokenizing, hub, tfds_source
from semdlm_jax.data.documents import Streamed
from semdlm_jax.data.files import Skipped, parts_of, read_plain_lines
from semdlm_jax.data.formats import PLAIN, kind_of
from semdlm_jax.data.matching import matching
from semdlm_jax.data.records import FIELD, read_documents
from semdlm_jax.errors import UserError

WRAPPED = (
    "rows as MDLM's, but for three things: the length and the vocabulary are this model's (MDLM: 1,024 tokens of "
    "GPT-2), the last row stays, shorter (MDLM drops what does not fill a row after every 1,000 documents or fewer), "
    "and blank documents are skipped (MDLM joins the end token of each)"
)


@dataclasses.dataclass(frozen=True)
class Published:
    """One of the data sets.

    Attributes:
        repository: on the hub, OWNER/NAME or OWNER/NAME/FOLDER.
        split: the one that MDLM scores.
        document: what one is, in words.
        field: the column that holds it.
        detokenize: what is done to a document; None for nothing.
        replaced: the same in words.
        converted: whether the hub holds its text in the revision `hub.CONVERTED` alone.
        lines: whether each line of a plain text file is a document.
        ends: whether such a document keeps its line break.
        tfds: its name in tensorflow-datasets, which is read where the hub's files are not there; '' for none.
        former: another name of the repository.
    """

    repository: str
    split: str
    document: str
    field: str = FIELD
    detokenize: Callable[[str], str] | None = None
    replaced: str = "nothing replaced"
    converted: bool = False
    lines: bool = False
    ends: bool = False
    tfds: str = ""
    former: str = ""


PUBLISHED = {
    "ptb": Published(
        "ptb-text-only/ptb_text_only/penn_treebank",
        "valid",
        "a sentence",
        field="sentence",
        detokenize=detokenizing.ptb,
        replaced="contractions joined, N written as 1, <unk> as ?",
        converted=True,
        lines=True,
        former="ptb_text_only/penn_treebank",
    ),
    "wikitext103": Published(
        "Salesforce/wikitext/wikitext-103-raw-v1",
        "valid",
        "a line (a heading or a paragraph, with its line break)",
        detokenize=detokenizing.wikitext,
        replaced="@-@ and its like, and spaces around marks, undone",
        lines=True,
        ends=True,
        former="wikitext/wikitext-103-raw-v1",
    ),
    "lm1b": Published(
        "billion-word-benchmark/lm1b/plain_text",
        "test",
        "a sentence",
        detokenize=detokenizing.lm1b,
        replaced="spaces around marks undone",
        converted=True,
        lines=True,
        tfds="lm1b",
        former="lm1b/plain_text",
    ),
    "lambada": Published(
        "EleutherAI/lambada_openai/default",
        "test",
        "a passage, last word included, after a line break",
        detokenize=detokenizing.lambada,
        replaced="curly double quotes straightened",
    ),
    "ag_news": Published("fancyzhx/ag_news/data", "test", "a news item", former="ag_news/data"),
    "pubmed": Published(
        "armanc/scientific_papers/pubmed",
        "valid",
        "an article without its abstract",
        field="article",
        detokenize=detokenizing.scientific,
        replaced="spaces around marks undone, as of WikiText and then of the One Billion Word Benchmark",
        converted=True,
        former="scientific_papers/pubmed",
    ),
}
PUBLISHED["arxiv"] = dataclasses.replace(
    PUBLISHED["pubmed"], repository="armanc/scientific_papers/arxiv", former="scientific_papers/arxiv"
)


def open_published(name: str, files: str, split: str) -> Streamed:
    """The documents of a split of one of PUBLISHED, unchanged but for what its protocol replaces.

    Args:
        name: of PUBLISHED.
        files: a path, folder or glob of its files; '' to find them in the local cache.
        split: train, valid or test.

    Raises:
        UserError: its files are not on this machine, or not of this set.
    """
    data, skipped = PUBLISHED[name], Skipped()
    if files:
        paths = matching(f"{name}:{files}", files)
        read, origin = _of_files(name, data, paths, skipped), f"files matching {files}"
    else:
        read, origin, paths = _found(name, data, split, skipped)

    def documents():
        skipped.clear()
        for text in read():
            text = data.detokenize(text) if data.detokenize else text
            if text.strip():
                yield split, parts_of(text)
            else:
                skipped.add(f"{name}, a document of marks alone")

    return Streamed(documents, name=name, origin=origin, files=paths, skipped=skipped)


def _found(name, data, split, skipped):
    """(() -> documents, origin, paths) of a set that lies on this machine."""
    for repository in filter(None, (data.repository, data.former)):
        try:
            paths = hub.dataset_files(repository, split)
        except UserError:
            continue
        return _of_files(name, data, paths, skipped), f"data set {repository} of the Hugging Face hub", paths
    if data.tfds:
        try:
            pairs, origin, paths = tfds_source.open_dataset(data.tfds, skipped, data.field, (split,))
        except UserError:
            pass
        else:
            return lambda: (text for _, text in pairs()), origin, paths
    raise UserError(
        f"corpus {name!r}: its {split} split is not on this machine, and nothing is downloaded here: "
        f"{_how_to_get(name)}"
    )


def _how_to_get(name):
    data = PUBLISHED[name]
    command = hub.download_command(data.repository, hub.CONVERTED if data.converted else "")
    tfds = f", or prepare tfds:{data.tfds}" * bool(data.tfds)
    plain = ", or .txt with a document a line" * data.lines
    return (
        f"run `{command}` where there is a network{tfds}, or give its files as {name}:PATH (.parquet, .jsonl or .csv "
        f"with the documents under {data.field!r}{plain})"
    )


def _of_files(name, data, paths, skipped) -> Callable[[], Iterator[str]]:
    for path in paths:
        if kind_of(path) == PLAIN and not data.lines:
            raise UserError(f"corpus {name!r}: {path} is plain text, in which no document ends: {_how_to_get(name)}")

    def read():
        for path in paths:
            if kind_of(path) != PLAIN:
                yield from read_documents(path, skipped, data.field)
                continue
            for number, line in enumerate(read_plain_lines(path), 1):
                if line.strip():
                    yield line if data.ends else line.strip()
                else:
                    skipped.add(f"{path}, line {number}")

    return read
