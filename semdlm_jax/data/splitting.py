"""Deterministic splits into train, valid and test, which keep near duplicates in one split."""

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping

HELD_OUT_FRACTION = 0.05  # of the characters, each for valid and test
HELD_OUT_BYTES = 10_000_000  # enough of a large corpus, which gives a smaller fraction


def split_groups(groups, sizes=None):
    """Splits whole groups of documents about 90/5/5, always the same way, see `draw_held_out`.

    groups: dict of key -> documents. sizes: dict of key -> size, the documents' characters when None.
    Returns (train, valid, test), lists of documents in the groups' order.
    """
    sizes = sizes or {key: sum(map(len, documents)) for key, documents in groups.items()}
    place = draw_held_out(groups, sizes.__getitem__)
    return tuple([text for key in groups if place.get(key, 0) == split for text in groups[key]] for split in range(3))


def split_copies(copies: Mapping[str, int]) -> tuple[list[str], list[str], list[str]]:
    """(train, valid, test) of texts, each with how often it occurs: its copies stay together. Else as `split_groups`,
    in less memory."""
    place = draw_held_out(copies, lambda text: len(text) * copies[text])
    train, valid, test = (
        [text for text, count in copies.items() if place.get(text, 0) == split for _ in range(count)]
        for split in range(3)
    )
    return train, valid, test


def draw_held_out(keys: Iterable, size: Callable) -> dict:
    """{key: 1 for valid, 2 for test}; the other keys are train's.

    Keys are drawn in a fixed random order until a held-out split has its 5 %; one that would double that is left
    to train. size: key -> its size.
    """
    order = sorted(keys)
    quota = HELD_OUT_FRACTION * sum(map(size, order))
    random.Random(0).shuffle(order)
    place = {}
    for split in (1, 2):
        taken = 0
        for key in reversed(order):
            if taken >= quota:
                break
            if key not in place and taken + size(key) <= 2 * quota:
                place[key] = split
                taken += size(key)
    return place


def run_ends(sizes: Callable[[], Iterable[int]]) -> tuple[int, int, int]:
    """(blocks, first of valid, first of test): where a text of blocks is cut into train, valid and test, about 90/5/5.

    sizes: () -> the characters of each block, called twice. A block falls where its middle falls. Each split gets at
    least a block where there are three; fewer all go to train.
    """
    count = total = 0
    for size in sizes():
        count, total = count + 1, total + size
    if count < 3:
        return count, count, count
    bounds = [1 - 2 * HELD_OUT_FRACTION, 1 - HELD_OUT_FRACTION]
    first, seen = [], 0
    for index, size in enumerate(sizes()):
        seen += size
        while len(first) < 2 and (seen - size / 2) / total >= bounds[len(first)]:
            first.append(index)
    valid, test = (*first, count, count)[:2]
    valid = min(valid, count - 2)
    return count, valid, min(max(test, valid + 1), count - 1)


def held_out_fraction(total_bytes):
    """Of a corpus of that size, what valid and test get each."""
    return min(HELD_OUT_FRACTION, HELD_OUT_BYTES / max(total_bytes, 1))


def split_of(text, fraction, splits=("valid", "test")):
    """The split of a document of a corpus too large to be weighed first: each of `splits` gets about `fraction`, train
    the rest. It depends on the text alone, so a document and its copies share a split."""
    place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
    index = int(place / fraction)
    return splits[index] if index < len(splits) else "train"
