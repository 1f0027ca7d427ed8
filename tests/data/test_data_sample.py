import pytest

from semdlm_jax.data import prepare as preparing
from semdlm_jax.data import sample
from semdlm_jax.data.corpora import Corpus
from semdlm_jax.data.normalization import normalize
from semdlm_jax.data.sample import LINE, WORD, draw_sample

ODD = "ΣΑΣ\r\nﬁne\v x\u2028 y \n\n \u00a0\n\ufeff\x85A \u0301e\n\u0301 ½\x1c\n snake▁case"


def test_of_a_small_text_every_line_is_taken():
    drawn = draw_sample([ODD, "", " \n", "two\nlines"], True)
    lines = [*normalize(ODD, True).split("\n"), "two", "lines"]
    assert (drawn.lines, drawn.whole, drawn.of) == (lines, True, len(ODD) + 11)
    assert drawn.characters == sum(map(len, lines))
    assert list(drawn.taken()) == lines and drawn.lines == []


@pytest.mark.parametrize("bound", ["MAX_CHARACTERS", "MAX_OF_WORDS"])
def test_a_sample_is_bounded_and_fair(monkeypatch, bound):
    """Whatever comes when in a text, e.g. two languages by turns, has its share of the sample."""
    monkeypatch.setattr(sample, bound, 30_000)
    texts = ["\n".join(f"{'eo'[i % 2]}{i:06} common words" for i in range(at, at + 50)) for at in range(0, 16_000, 50)]
    drawn = draw_sample(iter(texts), True)
    words = {word for line in drawn.lines for word in line.split()}
    cost = {
        "MAX_CHARACTERS": sum(len(line) + LINE for line in drawn.lines),
        "MAX_OF_WORDS": sum(len(word) + WORD for word in words),
    }[bound]
    assert 30_000 / 3 < cost <= 30_000
    places = [int(line[1:7]) for line in drawn.lines]
    assert places == sorted(places) and (drawn.whole, drawn.of) == (False, sum(map(len, texts)))
    assert drawn.lines == draw_sample(texts, True).lines
    count = len(places)
    for part in (sum(line[0] == "e" for line in drawn.lines), sum(place < 8_000 for place in places)):
        assert abs(part - count / 2) < 2 * count**0.5  # four standard deviations
    assert max(b - a for a, b in zip(places, places[1:])) < 16 * 16_000 / count


def test_a_long_line_is_drawn_in_stretches(monkeypatch):
    monkeypatch.setattr(sample, "LONGEST", 100)
    line = "".join(f"{i:04}" for i in range(500))
    assert [len(part) for part in draw_sample([line], True).lines] == [100] * 20
    assert "".join(draw_sample([line], True).lines) == line
    monkeypatch.setattr(sample, "MAX_CHARACTERS", 1000)
    assert 0 < len(draw_sample([line], True).lines) <= 1000 // (100 + LINE)


def test_a_vocabulary_of_a_part_of_the_text_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "MAX_CHARACTERS", 5_000)
    text = "\n".join(f"the state of the union in {i}" for i in range(500))
    corpus, said = Corpus((text,), ("the union",), ("the state",), "text:x", "a text"), []
    prepared = preparing.prepare(corpus, tmp_path / "data", 40, True, said.append)
    characters, of = prepared.meta["sample"]["characters"], prepared.meta["sample"]["of"]
    assert of == len(text) and 1_000 < characters < 5_000
    told = f"learned from a part of the text: lines drawn at random, {characters:,} of {of:,} characters"
    assert any(told in line for line in said) and told in preparing.describe(prepared)
