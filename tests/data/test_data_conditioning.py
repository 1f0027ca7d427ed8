"""Prompts, suffixes and texts with blanks, as tokens at fixed positions."""

import numpy as np
import pytest

from semdlm_jax.data.conditioning import continue_from, fill_in, read_prompts
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.tokenizers import SentencePieceTokenizer
from semdlm_jax.errors import UserError

LENGTH = 24
PROMPT, SUFFIX = "the state of the union", "and the people"


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer.train(load_corpus("sotu").train[:4], 300, lowercase=True)


def spans(given):
    """(start, stop) of every run of given positions."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], given.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def check(condition, length=LENGTH):
    assert condition.tokens.dtype == np.int32 and condition.given.dtype == bool
    assert condition.tokens.shape == condition.given.shape == (length,)
    assert (condition.tokens[~condition.given] == 0).all()


def given_text(tokenizer, condition):
    return [tokenizer.decode(condition.tokens[start:stop]) for start, stop in spans(condition.given)]


def test_a_prompt_starts_the_sample(tokenizer):
    condition = continue_from(tokenizer, PROMPT, LENGTH)
    check(condition)
    count = len(tokenizer.encode(PROMPT))
    assert spans(condition.given) == [(0, count)] and condition.only_prompt
    assert given_text(tokenizer, condition) == [PROMPT] and condition.text == PROMPT


def test_a_suffix_ends_the_sample(tokenizer):
    condition = continue_from(tokenizer, "", LENGTH, SUFFIX)
    check(condition)
    assert spans(condition.given) == [(LENGTH - len(tokenizer.encode(SUFFIX)), LENGTH)] and not condition.only_prompt
    assert given_text(tokenizer, condition) == [SUFFIX]
    assert SUFFIX in condition.text


def test_both_stand_at_their_ends(tokenizer):
    condition = continue_from(tokenizer, PROMPT, LENGTH, SUFFIX)
    check(condition)
    start, end = len(tokenizer.encode(PROMPT)), len(tokenizer.encode(SUFFIX))
    assert spans(condition.given) == [(0, start), (LENGTH - end, LENGTH)] and not condition.only_prompt
    assert given_text(tokenizer, condition) == [PROMPT, SUFFIX]
    assert PROMPT in condition.text and SUFFIX in condition.text
    assert condition.text.index(PROMPT) < condition.text.index(SUFFIX)


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_no_prompt_gives_nothing(tokenizer, prompt):
    condition = continue_from(tokenizer, prompt, LENGTH)
    check(condition)
    assert not condition.given.any() and condition.only_prompt


def test_something_must_be_left_to_write(tokenizer):
    """One free position is enough, none is refused, and the message counts the tokens."""
    start, end = len(tokenizer.encode(PROMPT)), len(tokenizer.encode(SUFFIX))
    assert continue_from(tokenizer, PROMPT, start + 1).given.sum() == start
    assert (~continue_from(tokenizer, PROMPT, start + end + 1, SUFFIX).given).sum() == 1
    for length in (start, start - 1, 1):
        with pytest.raises(UserError, match=f"^the prompt has {start} tokens but the context holds {length}: shorten"):
            continue_from(tokenizer, PROMPT, length)
    with pytest.raises(UserError, match=f"^prompt and suffix has|have {start + end} tokens but the context holds"):
        continue_from(tokenizer, PROMPT, start + end, SUFFIX)


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
        ("the state[___]union", ("the state", 3, "union")),
        ("the [] [state [_] union", ("the [] [state", 1, "union")),
    ],
)
def test_blanks_are_as_long_as_written(tokenizer, template, pieces):
    """At the start, at the end, side by side, alone; brackets that are none are text."""
    condition = fill_in(tokenizer, template, LENGTH)
    check(condition)
    assert spans(condition.given) == template_spans(tokenizer, *pieces)
    known = [piece for piece in pieces if isinstance(piece, str) and tokenizer.unk_id not in tokenizer.encode(piece)]
    texts = given_text(tokenizer, condition)
    assert all(piece in texts for piece in known) and condition.text == template
    # What comes behind the template is free.
    assert not condition.given[sum(len(tokenizer.encode(p)) if isinstance(p, str) else p for p in pieces) :].any()
    assert condition.only_prompt == (template in ("the state [____]", "[______]"))


def test_a_template_may_fill_the_context_and_no_more(tokenizer):
    size = len(tokenizer.encode("the state")) + 3 + len(tokenizer.encode("union"))
    assert fill_in(tokenizer, "the state [___] union", size).given.sum() == size - 3
    with pytest.raises(UserError, match=f"takes {size} tokens but the context holds {size - 1}: shorten"):
        fill_in(tokenizer, "the state [___] union", size - 1)


@pytest.mark.parametrize("template", ["the state of the union", "", "the [] union", "the ___ union", "[ _ ]"])
def test_a_template_without_a_blank_is_refused(tokenizer, template):
    with pytest.raises(UserError, match=r"no blank: write one as \[___\]"):
        fill_in(tokenizer, template, LENGTH)


def test_prompts_are_the_lines_with_text(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\n  first one \n\n \t\r\nsecond: “ü”\r\nthird".encode())
    assert read_prompts(path) == read_prompts(str(path)) == ["first one", "second: “ü”", "third"]


def test_a_mark_at_the_start_of_the_file_is_no_text(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbffirst\nsecond\n")
    assert read_prompts(path) == ["first", "second"]
    path.write_bytes(b"\xef\xbb\xbf\n")
    with pytest.raises(UserError, match="holds no text"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read .*: give a UTF-8 text file"),
        (b"caf\xe9 noir\n", "cannot be read .*utf-8.*: give a UTF-8 text file"),
        (b"", "holds no text: give a prompt a line"),
        (b"\n \n\t\r\n", "holds no text: give a prompt a line"),
    ],
)
def test_a_file_without_prompts_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says) as refused:
        read_prompts(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path)
