"""A plain text file cut in three: contiguous runs of its blocks, a document each, read line by line."""

import itertools
import re
from collections.abc import Iterator

from semdlm_jax.data.files import parts_of_lines, read_plain_lines
from semdlm_jax.data.splitting import run_ends

_BLANK = re.compile(r"[ \t\r]*\n")  # the line that ends a block


def find_runs(path) -> dict[str, tuple[int, int]]:
    """{split: (first, end)}: the blocks of each split's run, about 90/5/5 by characters; with fewer than three
    blocks all are in train. Reads the file twice, line by line."""
    count, valid, test = run_ends(lambda: _sizes(path))
    runs = {"train": (0, valid), "valid": (valid, test), "test": (test, count)}
    return {split: (first, end) for split, (first, end) in runs.items() if first < end}


def read_run(path, first: int, end: int) -> Iterator[str]:
    """The text of blocks first to end, a blank line between two, in parts as `files.parts_of_lines` has them."""
    return parts_of_lines(_run_lines(path, first, end))


def _run_lines(path, first, end):
    inside = itertools.dropwhile(lambda pair: pair[0] < first, _block_lines(path))
    previous = None
    for number, line in itertools.takewhile(lambda pair: pair[0] < end, inside):
        if previous is not None:
            yield previous[1] + ("\n" if previous[0] == number else "\n\n")
        previous = number, line
    if previous is not None:
        yield previous[1]


def _sizes(path):
    """Characters of each block."""
    for _, lines in itertools.groupby(_block_lines(path), key=lambda pair: pair[0]):
        yield sum(len(line) + 1 for _, line in lines) - 1


def _block_lines(path):
    """(number of its block, line without its end) of every block, which one or more blank lines end. Blocks of white
    space are left out, and so is an empty line at the begin of a block."""
    number, fresh, blank = 0, True, []  # blank: lines of the block before its first with text; None once there is one
    for line in read_plain_lines(path):
        if not fresh and _BLANK.fullmatch(line):  # even a blank line can be a block's first one
            number += blank is None
            fresh, blank = True, []
            continue
        text = line.removesuffix("\n")
        if fresh and not text:
            fresh = False
            continue
        fresh = False
        if blank is not None and not text.strip():
            blank.append(text)
            continue
        if blank is not None:
            yield from ((number, line) for line in blank)
            blank = None
        yield number, text
