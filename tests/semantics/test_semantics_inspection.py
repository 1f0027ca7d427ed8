import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.semantics import inspection
from semdlm_jax.semantics.table import Notes, Table

BERT = ("[PAD]", "king", "queen", "##king", "##ing", "paris", "ing")
SENTENCEPIECE = ("<s>", "▁king", "▁queen", "king", "ing", "▁paris", "▁ing", "\n")
IDS = np.array([[-1, -1], [2, 5], [1, -1], [-1, -1], [2, -1], [2, 1], [2, 4]])
SIMILARITIES = np.where(IDS >= 0, [[0.9, 0.5]], 0)
TABLE = Table(IDS, SIMILARITIES, np.ones((7, 3)))


@pytest.mark.parametrize(
    "pieces, word, piece",
    [
        (BERT, "king", "king"),
        (BERT, "King", "king"),
        (BERT, "##king", "##king"),
        (BERT, "ing", "ing"),
        (BERT, "[PAD]", "[PAD]"),
        (SENTENCEPIECE, "king", "▁king"),
        (SENTENCEPIECE, "KING", "▁king"),
        (SENTENCEPIECE, "▁king", "▁king"),
        (SENTENCEPIECE, "##king", "king"),
        (SENTENCEPIECE, "##ing", "ing"),
        (SENTENCEPIECE, "<s>", "<s>"),
    ],
)
def test_a_word_as_a_reader_writes_it(pieces, word, piece):
    assert pieces[inspection.find_piece(word, pieces)] == piece


def test_no_such_word():
    with pytest.raises(UserError, match="'kings' is not a piece of this vocabulary: similar pieces are 'king'"):
        inspection.find_piece("kings", SENTENCEPIECE)
    with pytest.raises(UserError, match="give a word that is a single piece"):
        inspection.find_piece("constitution", BERT)


def test_a_summary_by_hand():
    """In-degrees: queen 4, king 2, paris and ##ing 1; ing 0; rows without neighbors do not count."""
    np.testing.assert_array_equal(inspection.in_degrees(IDS), [0, 2, 4, 0, 1, 1, 0])
    line = inspection.summary(IDS)
    assert line == (
        "7 tokens: 2 without neighbors, the others with 1.6 on average; in-degree median 1, 90 % 3, 99 % 4, largest 4; "
        "1 token in no neighbor list"
    )
    assert "7 tokens: 7 without neighbors" in inspection.summary(np.full((7, 2), -1))


def test_a_report_by_hand():
    notes = Notes(BERT, np.array([9, 3, 1, 5, 2, 0, 0]), np.array([0, 1, 1, 0, 0, 1, 0], bool))
    lines = inspection.inspect(TABLE, notes, ["king", "[PAD]"], shown=2, hubs=3).splitlines()
    assert lines[0] == "            king (king, in 2 lists) -> queen 0.90, paris 0.50"
    assert lines[1].startswith("           [PAD] ([PAD], in 0 lists) -> no neighbors")
    assert lines[2] == inspection.summary(IDS) and lines[3] == "largest hubs: queen 4, king 2, ##ing 1"
    # Three quarters and one quarter: 0.562 nats; 4 of 20 tokens of text.
    assert lines[4] == (
        "unigram prior: 3 possible tokens, 2 of them in the text, 20.0% of it; entropy 0.562 nats; "
        "most frequent king, queen"
    )
    alone = inspection.prior(notes._replace(counts=np.zeros(7, int)))
    assert alone == "unigram prior: 3 possible tokens; no counts, as there was no corpus"


def test_content_words_are_described():
    pieces = ("<s>", "▁government", "▁nation", "▁to", "government", "▁people", "▁union")
    lines = inspection.describe(pieces, IDS, np.array([9, 2, 8, 9, 9, 1, 1]), words=2).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["nation", "->", "government"],
        ["government", "->", "nation", "people"],
    ]
