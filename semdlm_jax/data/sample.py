"""A fair sample of a text of any size, small enough for the trainer of a vocabulary."""

import dataclasses
import random
from collections.abc import Iterable, Iterator

from semdlm_jax.data.normalization import spelled

# The trainer of SentencePiece needs 20 bytes a character of its text, for a suffix array, and goes 20 times and more
# through the different words. Within these it holds 300 MiB; the vocabulary settles long before.
MAX_CHARACTERS = 12_000_000  # of a sample's lines
MAX_OF_WORDS = 4_000_000  # of its different words; a novel has 100,000
LINE, WORD = 10, 4  # characters as which a line and a different word count besides their own
LONGEST = 2**14  # characters of a line; the trainer needs 600 bytes for each of one without spaces


@dataclasses.dataclass
class Sample:
    """Lines of a text, normalized as for the vocabulary, in their order and without empty ones.

    Attributes:
        characters: how many the lines have.
        of: how many the text has.
        whole: the sample is the whole text.
    """

    lines: list[str]
    characters: int
    of: int
    whole: bool

    def taken(self) -> Iterator[str]:
        """The lines, which this takes out of the sample as it goes on."""
        self.lines.reverse()
        while self.lines:
            yield self.lines.pop()


def draw_sample(texts: Iterable[str], lowercase: bool, normalized: bool = True) -> Sample:
    """All lines of the texts, or of more than the bounds above every line with the same chance 1 / 2^n, independently
    and always the same ones. Texts are read once; longer lines are drawn in stretches of LONGEST characters."""
    rng, held = random.Random(0), _Held()
    chance, of = 1.0, 0
    for text in texts:
        of += len(text)
        for line in _stretches(text):
            if rng.random() >= chance:
                continue
            for part in filter(None, spelled(line, lowercase, normalized)):
                held.add(part)
            while held.too_large():
                chance /= 2
                lines, held = held.lines, _Held()
                for part in lines:
                    if rng.random() < 0.5:
                        held.add(part)
    return Sample(held.lines, sum(map(len, held.lines)), of, chance == 1)


class _Held:
    """Lines, and what they will cost the trainer."""

    def __init__(self):
        self.lines, self._words = [], set()
        self._size = self._of_words = 0

    def add(self, line):
        self.lines.append(line)
        self._size += len(line) + LINE
        fresh = set(line.split(" ")) - self._words
        self._words |= fresh
        self._of_words += sum(map(len, fresh)) + WORD * len(fresh)

    def too_large(self):
        return self._size > MAX_CHARACTERS or self._of_words > MAX_OF_WORDS


def _stretches(text):
    for line in text.split("\n"):
        if len(line) <= LONGEST:
            yield line
        else:
            yield from (line[first : first + LONGEST] for first in range(0, len(line), LONGEST))
