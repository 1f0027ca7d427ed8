"""Train, valid and test, always the same way, so that no near duplicate crosses a split."""

import hashlib
import random
import re

import numpy as np

HELD_OUT_FRACTION = 0.05  # of the characters, each for valid and test
HELD_OUT_BYTES = 10_000_000  # enough of a large corpus, which gives a smaller fraction


def split_groups(groups, sizes=None):
    """Splits whole groups of documents about 90/5/5, always the same way.

    Groups are drawn in a fixed random order until a held-out split has its 5 %; one that would double that is left
    to train. groups: dict of key -> documents. sizes: dict of key -> size, the documents' characters when None.
    Returns (train, valid, test), lists of documents in the groups' order.
    """
    sizes = sizes or {key: sum(map(len, documents)) for key, documents in groups.items()}
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


def held_out_fraction(total_bytes):
    """Of a corpus of that size, what valid and test get each."""
    return min(HELD_OUT_FRACTION, HELD_OUT_BYTES / max(total_bytes, 1))


def split_of(text, fraction, splits=("valid", "test")):
    """The split of a document of a corpus too large to be weighed first: each of `splits` gets about `fraction`, train
    the rest. It depends on the text alone, so a document and its copies share a split."""
    place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
    index = int(place / fraction)
    return splits[index] if index < len(splits) else "train"
