"""Bits per byte against bytes counted by hand."""

import math

import numpy as np
import pytest

from semdlm_jax.data import scored
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.packing import pack
from semdlm_jax.data.protocols import PROTOCOLS, make_rows
from semdlm_jax.data.scored import bits_per_byte, scored_bytes
from semdlm_jax.data.wordpiece import SPECIAL_PIECES, WordPieceTokenizer

DOCUMENTS = ["the naïve of the", "of 漢 the", "of"]
WORDS = WordPieceTokenizer((*SPECIAL_PIECES, "the", "of", "na", "##ve", "##ive"), True)
LETTERS = HuggingFaceTokenizer.of_characters(["the naïve of 漢"], False)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("held", [2**22, 9])
def test_bytes_are_those_of_the_text_across_rows(protocol, held, monkeypatch):
    monkeypatch.setattr(scored, "HELD", held)
    length = {"padded": 20, "packed": 5, "wrapped": 5}[protocol]
    counted = {
        # "naïve" loses its accent; 漢 is unknown and the space beside it is one.
        WORDS: len("the naive of the") + len("of the") + len("of"),
        LETTERS: (16 + 1) + (8 + 2) + 2,  # ï has two bytes, 漢 three
    }
    for tokenizer, size in counted.items():
        rows = make_rows(protocol, pack(DOCUMENTS, tokenizer), length, tokenizer)
        assert scored_bytes(rows, tokenizer) == size


def test_what_padded_rows_leave_out_is_not_counted():
    rows = make_rows("padded", pack(DOCUMENTS, LETTERS), 5, LETTERS)
    assert scored_bytes(rows, LETTERS) == len("the") + len("of ") + len("of")


def test_bits_are_all_nats_over_all_bytes():
    """A model that gives each of 2^3 letters the same chance pays three bits a letter; of two bytes each, half."""
    assert bits_per_byte(math.log(8), 100, 100) == pytest.approx(3)
    assert bits_per_byte(math.log(8), 100, 200) == pytest.approx(1.5)
    assert bits_per_byte(1.0, 2, 0) is None and bits_per_byte(None, 2, 2) is None
    unknown = make_rows("packed", pack(["漢"], WORDS), 5, WORDS)
    assert scored_bytes(unknown, WORDS) == 0 and np.all(unknown.ordered_row(0)[1][:3])
