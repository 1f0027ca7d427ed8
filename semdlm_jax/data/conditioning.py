"""What a sample must hold: prompts, suffixes and texts with blanks, as tokens at fixed positions."""

import pathlib
import re
from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError


class Condition(NamedTuple):
    """text: what the user gave. tokens: [L] int32, 0 where free. given: [L] bool, where they stand."""

    text: str
    tokens: np.ndarray
    given: np.ndarray

    @property
    def only_prompt(self):
        """Whether nothing is given behind a free position."""
        return bool((np.diff(self.given.astype(np.int8)) <= 0).all())


def continue_from(tokenizer, prompt, length, suffix=""):
    """The prompt starts the sample and the suffix ends it. UserError when they leave nothing to write."""
    start, end = tokenizer.encode(prompt) if prompt else [], tokenizer.encode(suffix) if suffix else []
    _check_room("the prompt" if not suffix else "prompt and suffix", len(start) + len(end), length)
    tokens, given = np.zeros(length, np.int32), np.zeros(length, bool)
    tokens[: len(start)], given[: len(start)] = start, True
    if suffix:
        tokens[length - len(end) :], given[length - len(end) :] = end, True
    return Condition(prompt + (" … " + suffix if suffix else ""), tokens, given)


def fill_in(tokenizer, template, length):
    """The template starts the sample; `[___]` in it is a blank of as many tokens as it has underscores. What comes
    after the template is free. UserError: no blank, or a template longer than the sample."""
    parts = re.split(r"\[(_+)\]", template)
    if len(parts) == 1:
        raise UserError("the infilling text has no blank: write one as [___], an underscore for each token to fill in")
    pieces = [tokenizer.encode(part) if part.strip() else [] for part in parts[::2]]
    blanks = [len(blank) for blank in parts[1::2]] + [0]
    size = sum(map(len, pieces)) + sum(blanks)
    if size > length:
        raise UserError(f"the infilling text takes {size} tokens but the context holds {length}: shorten it")
    tokens, given, place = np.zeros(length, np.int32), np.zeros(length, bool), 0
    for piece, blank in zip(pieces, blanks, strict=True):
        tokens[place : place + len(piece)], given[place : place + len(piece)] = piece, True
        place += len(piece) + blank
    return Condition(template, tokens, given)


def read_prompts(path):
    """The lines of a UTF-8 file that hold text. UserError: no such file, or nothing in it."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--prompts={path}: cannot be read ({error}): give a UTF-8 text file, a prompt a line"
        ) from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"--prompts={path} holds no text: give a prompt a line")
    return prompts


def _check_room(what, count, length):
    if count >= length:
        raise UserError(f"{what} has {count} tokens but the context holds {length}: shorten it")
