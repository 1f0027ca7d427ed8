"""Prompts, suffixes and texts with blanks, as tokens at fixed positions."""

import re
import string

import numpy as np
import pytest

from semdlm_jax.data.conditioning import (
    Condition,
    continue_from,
    fill_in,
    lay_out,
    tell_unknown,
    text_of,
)
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.packing import pack
from semdlm_jax.data.protocols import PROTOCOLS, make_rows
from semdlm_jax.data.sentencepiece_proto import ModelProto
from semdlm_jax.data.tokenizers import SentencePieceTokenizer
from semdlm_jax.data.wordpiece import SPECIAL_PIECES, WordPieceTokenizer
from semdlm_jax.errors import UserError

LENGTH = 24
PROMPT, SUFFIX = "the state of the union", "and the people"  # the suffix after a space


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer.train(load_corpus("sotu").train[:4], 300, lowercase=True)


def spans(given):
    """(start, stop) of every run of given positions."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], given.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def laid(condition, size=LENGTH):
    """(tokens, given) of a text that holds it."""
    tokens, given = condition.lay(size)
    assert tokens.dtype == np.int32 and given.dtype == bool
    assert tokens.shape == given.shape == (size,)
    assert (tokens[~given] == 0).all()
    return tokens, given


def given_text(tokenizer, condition):
    tokens, given = laid(condition)
    return [tokenizer.decode(tokens[start:stop]) for start, stop in spans(given)]


def test_a_prompt_starts_the_sample(tokenizer):
    condition = continue_from(tokenizer, PROMPT, LENGTH)
    count = len(tokenizer.encode(PROMPT))
    assert spans(laid(condition)[1]) == [(0, count)] and condition.only_prompt
    assert given_text(tokenizer, condition) == [PROMPT] and condition.text == PROMPT


def test_a_suffix_ends_the_sample(tokenizer):
    condition = continue_from(tokenizer, "", LENGTH, f" {SUFFIX}")
    assert spans(laid(condition)[1]) == [(LENGTH - len(tokenizer.encode(SUFFIX)), LENGTH)] and not condition.only_prompt
    assert given_text(tokenizer, condition) == [SUFFIX]
    assert SUFFIX in condition.text


def test_both_stand_at_their_ends(tokenizer):
    condition = continue_from(tokenizer, PROMPT, LENGTH, f" {SUFFIX}")
    start, end = len(tokenizer.encode(PROMPT)), len(tokenizer.encode(SUFFIX))
    assert spans(laid(condition)[1]) == [(0, start), (LENGTH - end, LENGTH)] and not condition.only_prompt
    assert given_text(tokenizer, condition) == [PROMPT, SUFFIX]
    assert PROMPT in condition.text and SUFFIX in condition.text
    assert condition.text.index(PROMPT) < condition.text.index(SUFFIX)


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_no_prompt_gives_nothing(tokenizer, prompt):
    condition = continue_from(tokenizer, prompt, LENGTH)
    assert not laid(condition)[1].any() and condition.only_prompt


def test_something_must_be_left_to_write(tokenizer):
    """One free position is enough, none is refused, and the message counts the tokens."""
    start, end = len(tokenizer.encode(PROMPT)), len(tokenizer.encode(SUFFIX))
    shortest = continue_from(tokenizer, PROMPT, start + 1)
    assert shortest.least == start + 1 and laid(shortest, start + 1)[1].sum() == start
    shortest = continue_from(tokenizer, PROMPT, start + end + 1, f" {SUFFIX}")
    assert shortest.least == start + end + 1 and (~laid(shortest, start + end + 1)[1]).sum() == 1
    for length in (start, start - 1, 1):
        with pytest.raises(UserError, match=f"^the prompt has {start} tokens but the context holds {length}: shorten"):
            continue_from(tokenizer, PROMPT, length)
    with pytest.raises(UserError, match=f"^line 3 with the suffix has {start + end} tokens but the context holds"):
        continue_from(tokenizer, PROMPT, start + end, f" {SUFFIX}", "line 3")


def template_spans(tokenizer, *pieces):
    """What is given by pieces of text and blanks (numbers of tokens), worked out one after the other."""
    place, found = 0, []
    for piece in pieces:
        if isinstance(piece, str):
            count = len(tokenizer.encode(piece))
            found.append((place, place + count))
        else:
            count = piece
        place += count
    return found


@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        ("the state [___] union", ("the state", 3, "union")),
        ("[__] union", (2, "union")),
        ("the state [____]", ("the state", 4)),
        ("[_] the [__] union [___]", (1, "the", 2, "union", 3)),
        ("the [__][_] union", ("the", 3, "union")),
        ("the [__] [_] union", ("the", 3, "union")),
        ("[______]", (6,)),
        ("the state[___] union", ("the state", 3, "union")),
        ("the [] [state [_] union", ("the [] [state", 1, "union")),
    ],
)
def test_blanks_are_as_long_as_written(tokenizer, template, pieces):
    """At the start, at the end, side by side, alone; brackets that are none are text."""
    condition = fill_in(tokenizer, template, LENGTH)
    given = laid(condition)[1]
    assert spans(given) == template_spans(tokenizer, *pieces)
    known = [piece for piece in pieces if isinstance(piece, str) and tokenizer.unk_id not in tokenizer.encode(piece)]
    texts = given_text(tokenizer, condition)
    assert all(piece in texts for piece in known) and condition.text == template
    # What comes behind the template is free.
    assert not given[sum(len(tokenizer.encode(p)) if isinstance(p, str) else p for p in pieces) :].any()
    assert condition.only_prompt == (template in ("the state [____]", "[______]"))


def test_a_template_may_fill_the_context_and_no_more(tokenizer):
    size = len(tokenizer.encode("the state")) + 3 + len(tokenizer.encode("union"))
    whole = fill_in(tokenizer, "the state [___] union", size)
    assert whole.least == size and laid(whole, size)[1].sum() == size - 3
    with pytest.raises(UserError, match=f"takes {size} tokens but the context holds {size - 1}: shorten"):
        fill_in(tokenizer, "the state [___] union", size - 1)


@pytest.mark.parametrize(
    ("template", "part"),
    [("[_] state [_", "[_"), ("[_] state __]", "__]"), ("[_] of [ _ ]", "[ _"), ("[[_] [__ a", "[__")],
)
def test_a_part_of_a_blank_is_no_text(tokenizer, template, part):
    with pytest.raises(
        UserError, match=re.escape(f"{part!r} in the infilling text is no whole blank: write one as [___]")
    ):
        fill_in(tokenizer, template, LENGTH)


@pytest.mark.parametrize("template", ["the state of the union", "", "the [] union", "the ___ union", "[ _ ]"])
def test_a_template_without_a_blank_is_refused(tokenizer, template):
    with pytest.raises(UserError, match=r"no blank: write one as \[___\]"):
        fill_in(tokenizer, template, LENGTH)


@pytest.mark.parametrize(
    ("template", "breaks"),
    [
        ("the state\n[_] union", [True]),
        ("the state [_]\nunion", [True]),
        ("the state [_] \n union", [True]),
        ("the state [_]\n[_] union", [True]),
        ("the state\n[_]\nunion", [True, True]),
        ("\nthe state [_] union\n", []),
    ],
)
def test_a_line_break_beside_a_blank_stays(tokenizer, template, breaks):
    """And takes a token of its own; before the text and behind it there is nothing to break."""
    condition = fill_in(tokenizer, template, LENGTH)
    ids = condition.start[condition.known]
    assert (ids == tokenizer.newline_id).sum() == len(breaks)
    words = [*tokenizer.encode("the state"), *tokenizer.encode("union")]
    assert ids[ids != tokenizer.newline_id].tolist() == words
    if breaks:
        at = np.flatnonzero(condition.known & (condition.start == tokenizer.newline_id))
        assert all(not condition.known[i - 1] or not condition.known[i + 1] for i in at)


SENTENCES = ["the state", "the state of the union", "and the people", "", "the state of the union and the people " * 9]


@pytest.fixture(scope="module")
def stream(tokenizer):
    return pack(SENTENCES, tokenizer)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows_are_laid_out_as_the_protocol_has_them(tokenizer, stream, name):
    rows = make_rows(name, stream, LENGTH, tokenizer)
    conditions = [Condition(), continue_from(tokenizer, PROMPT, rows.max_text_len, " people")] * 20
    tokens, given, lengths = lay_out(conditions, rows, np.random.default_rng(0))
    assert tokens.shape == given.shape == (40, LENGTH) and tokens.dtype == np.int32 and given.dtype == bool
    assert (tokens[~given] == 0).all()
    framed = name != "packed"
    assert (lengths is not None) == (name == "padded")
    for index, size in enumerate([LENGTH] * 40 if lengths is None else lengths):
        assert given[index, size:].all() and (tokens[index, size:] == tokenizer.pad_id).all()
        row, inside = tokens[index, :size], given[index, :size]
        if framed:
            assert (row[0], row[-1]) == (tokenizer.bos_id, tokenizer.eos_id) and inside[0] and inside[-1]
            row, inside = row[1:-1], inside[1:-1]
        wanted = conditions[index].lay(len(row))
        np.testing.assert_array_equal(row, wanted[0])
        np.testing.assert_array_equal(inside, wanted[1])


def test_lengths_are_those_of_the_corpus_that_hold_the_condition(tokenizer, stream):
    """As often as they occur, to five standard errors; an empty document is never drawn."""
    rows = make_rows("padded", stream, LENGTH, tokenizer)
    sizes = np.array([min(len(tokenizer.encode(text)) + 2, LENGTH) for text in SENTENCES])
    assert len(set(sizes)) == 5 and sizes[4] == LENGTH and sizes[3] == 2
    for condition, fitting in (
        (Condition(), sizes != 2),
        (continue_from(tokenizer, "the state", rows.max_text_len), sizes > sizes[0]),
        (continue_from(tokenizer, "the state of the union and", rows.max_text_len), sizes == LENGTH),
    ):
        lengths = lay_out([condition] * 2000, rows, np.random.default_rng(1)).lengths
        found = dict(zip(*np.unique(lengths, return_counts=True), strict=True))
        assert found.keys() == set(sizes[fitting].tolist())
        share = 1 / fitting.sum()
        assert all(abs(n / 2000 - share) < 5 * np.sqrt(share / 2000) for n in found.values())
    short = make_rows("padded", pack(["the state"], tokenizer), LENGTH, tokenizer)
    prompt = continue_from(tokenizer, PROMPT, short.max_text_len)
    assert lay_out([prompt], short, np.random.default_rng(1)).lengths == LENGTH


def words(tokenizer):
    """A WordPiece vocabulary that spells what the other does."""
    texts = {text for text in tokenizer.texts if text.isalpha()} | set(string.ascii_lowercase + ",.'-")
    return WordPieceTokenizer((*SPECIAL_PIECES, *sorted(texts), *(f"##{text}" for text in sorted(texts))), True)


def bare(tokenizer):
    """The same pieces in a given model that puts no space before a text."""
    model = ModelProto.FromString(tokenizer.model)
    model.normalizer_spec.add_dummy_prefix = False
    return SentencePieceTokenizer(model.SerializeToString(), True)


@pytest.mark.parametrize("make", [lambda tokenizer: tokenizer, words, bare])
@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("the state", "s, the people"),
        ("the state", ", and the people"),
        ("the state", " and the people"),
        ("the pe", "ople"),
        ("the state", "\nof the union\nand the people"),
        ("the state", "-of-the-union"),
        ("the state", ""),
    ],
)
def test_text_behind_text_goes_on_as_it_is_written(tokenizer, make, before, text):
    """As a suffix, and behind a blank: its tokens after those of a text read as both texts do together."""
    tokenizer = make(tokenizer)
    start = tokenizer.encode(before).tolist()
    suffix = continue_from(tokenizer, before, LENGTH + 20, text)
    filled = fill_in(tokenizer, f"[_]{text}", LENGTH + 20)
    assert filled.known.tolist() == [False] + [True] * (len(filled.start) - 1)
    wanted = before + text if tokenizer.newline_id is not None else (before + text).replace("\n", " ")
    for ids in (suffix.end.tolist(), filled.start[1:].tolist()):
        assert tokenizer.decode(start + ids) == wanted.replace(
            "-", " - " if isinstance(tokenizer, WordPieceTokenizer) else "-"
        )


def test_what_is_unknown_is_told(tokenizer):
    lines = []
    tell_unknown(tokenizer, {"--prompt": ["the state", "of the 漢字 union", " "], "--suffix": [""]}, lines.append)
    assert lines == ["--prompt: 1 of 6 words are unknown to the vocabulary: 漢字; <unk> stands for what is not known"]
    tell_unknown(tokenizer, {"--infill": [text_of("the [_] union")]}, lines.append)
    assert len(lines) == 1
    tell_unknown(tokenizer, {"--prompt": ["the \u200bstate", "so\u00adft \u00ad"]}, lines.append)
    assert lines[1:] == ["--prompt: characters that the vocabulary leaves out: U+200B, U+00AD"]


@pytest.mark.parametrize("text", ["漢字 Привет", "\u200b", "\udcff the state"])
def test_text_of_which_nothing_is_known_is_refused(tokenizer, text):
    with pytest.raises(UserError, match="^--prompts=x(: the vocabulary knows nothing of| is not UTF-8)") as refused:
        tell_unknown(tokenizer, {"--prompts=x": ["the state", text]})
    assert "\n" not in str(refused.value)
