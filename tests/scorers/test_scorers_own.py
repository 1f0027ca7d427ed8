"""A scorer of a user's own, and what it is told."""

import sys

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.scorers import Scored, make_scorer

MODULE = """
import dataclasses

import numpy as np

from semdlm_jax.scorers import Scored, Scorer


@dataclasses.dataclass(frozen=True)
class Counting(Scorer):
    per_character: float = 2.0
    wrong: str = ""

    @property
    def name(self):
        return "letters"

    @property
    def protocol(self):
        return "so many nats a character"

    def score(self, texts):
        if self.wrong:
            return eval(self.wrong)
        tokens = np.array([len(text) for text in texts])
        return Scored(self.per_character * tokens, tokens, tokens[:, None].astype(np.float32))
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    (tmp_path / "letter_scorer.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "letter_scorer:Counting"
    sys.modules.pop("letter_scorer", None)


def test_own_scorer(spec):
    scored = make_scorer(spec, per_character=3.0).score(["ab", ""])
    assert scored.nll.tolist() == [6, 0] and scored.perplexity == pytest.approx(np.exp(3))


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("None", "Counting: its score returns None: return a Scored"),
        ("Scored(np.zeros(1), np.zeros(2), np.zeros((2, 1)))", r"shapes \[\(1,\), .* for 2 texts: return \[N\]"),
        ("1 / 0", "Counting failed in score .ZeroDivisionError .*letter_scorer.py line 24.: mend its code"),
    ],
)
def test_what_it_returns_is_checked(spec, wrong, words):
    with pytest.raises(UserError, match=words):
        make_scorer(spec, wrong=wrong).score(["a", "b"])


def test_perplexity_without_tokens_or_beyond_floats():
    nothing = np.zeros((1, 1), np.float32)
    assert Scored(np.zeros(1), np.zeros(1, int), nothing).perplexity is None
    assert Scored(np.array([1e4]), np.ones(1, int), nothing).perplexity == np.inf
