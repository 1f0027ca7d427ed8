"""What every scorer of text offers."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.options import shown
from semdlm_jax.plugins import WithArgument


class Scored(NamedTuple):
    """The scores of N texts.

    Attributes:
        nll: [N] float64, nats: the sum of -log p over the scored tokens of each text.
        tokens: [N] int64, the scored tokens of each text; 0 where it has none.
        features: [N, D] float32, the mean over the tokens of a text of the last hidden state, behind the final norm;
            zeros for a text without tokens.
    """

    nll: np.ndarray
    tokens: np.ndarray
    features: np.ndarray

    @property
    def perplexity(self) -> float | None:
        """Of the corpus: exp(sum of nll / sum of tokens). None without tokens; inf where that is no float."""
        total = int(self.tokens.sum())
        if not total:
            return None
        mean = float(self.nll.sum()) / total
        return math.exp(mean) if mean < math.log(np.finfo(float).max) else math.inf


@dataclasses.dataclass(frozen=True)
class Scorer(WithArgument, abc.ABC):
    """Gives the likelihood of texts under a model of its own, and their features.

    Attributes:
        name: what scores, down to the file: 'hf:gpt2-large (…)'.
        protocol: how, in a sentence: the tokenizer, what stands before a text, how long text is cut, the mean and the
            precision. Scores under different names or protocols do not compare.
    """

    RETURNS = {"score": lambda found, texts: _scored_problem(found, texts)}

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def protocol(self) -> str: ...

    def prepare(self) -> None:
        """Reads what it scores with. UserError: something of it is missing, so that this is told before long work."""

    @abc.abstractmethod
    def score(self, texts: Sequence[str]) -> Scored:
        """The scores of texts, in their order. UserError: no list of texts, or an empty one."""


def check_texts(texts: Sequence[str]) -> None:
    """UserError unless these are texts, and at least one."""
    if isinstance(texts, str) or not isinstance(texts, Sequence | np.ndarray):
        raise UserError(f"texts to score are {shown(texts)}: give a list of them")
    if not len(texts):
        raise UserError("there is no text to score: give a list of at least one")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {index} of those to score is {shown(text)}, which is no text: give a str")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"text {index} of those to score is not valid Unicode: decode it as UTF-8") from None


def _scored_problem(found, texts):
    """What is wrong with the result of a user's own `score`; '' for a Scored of as many texts."""
    count = len(texts)
    if not isinstance(found, Scored):
        return f"{shown(found)}: return a Scored"
    shapes = [np.shape(array) for array in found]
    if shapes[:2] != [(count,), (count,)] or len(shapes[2]) != 2 or shapes[2][0] != count:
        return f"a Scored of shapes {shapes} for {count} texts: return [N], [N] and [N, D]"
    return ""
