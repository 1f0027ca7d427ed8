"""A corpus and a tokenizer of your own: sums of two numbers, their digits in the order in which one adds them."""

import dataclasses
import random
import re

from semdlm_jax.data.corpora import Corpus, CorpusSpec
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.data.tokenizers import TokenizerSpec
from semdlm_jax.options import number, switch
from semdlm_jax.plugins import field


@dataclasses.dataclass(frozen=True)
class Sums(CorpusSpec):
    """Every sum of two numbers, a document each."""

    below: int = field(number(100, "[10, 1000]", "the numbers are smaller than this"))

    def load(self):
        sums = [f"{a}+{b}={a + b}" for a in range(self.below) for b in range(self.below)]
        random.Random(0).shuffle(sums)
        held_out = len(sums) // 20
        valid, test, train = sums[:held_out], sums[held_out : 2 * held_out], sums[2 * held_out :]
        return Corpus(tuple(train), tuple(valid), tuple(test), origin=f"sums of two numbers below {self.below}")


@dataclasses.dataclass(frozen=True)
class Signs(OwnTokenizer):
    """A sign a piece; with `backwards`, the last digit of a number comes first."""

    backwards: bool = True

    def ids_of(self, text):
        return [self.vocabulary.index(s) if s in self.vocabulary else self.unk_id for s in self._turned(text)]

    def text_of(self, ids):
        return self._turned("".join(self.vocabulary[i] for i in ids))

    def _turned(self, text):
        return re.sub(r"\d+", lambda digits: digits[0][::-1], text) if self.backwards else text


@dataclasses.dataclass(frozen=True)
class Digits(TokenizerSpec):
    """The signs that the training text has."""

    backwards: bool = field(switch(True, "the last digit of a number comes first"))

    def build(self, text):
        signs = sorted({sign for part in text for sign in part})
        return Signs(tuple(signs), self.lowercase, self.backwards)
