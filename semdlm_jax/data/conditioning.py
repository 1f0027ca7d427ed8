"""What a sample must hold: prompts, suffixes and texts with blanks, as tokens at fixed positions of a row."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from semdlm_jax.data.files import read_numbered_lines
from semdlm_jax.data.protocols import Rows
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.data.tokenizers import marks_words
from semdlm_jax.data.unknown import UNKNOWN_NAMED, dropped_characters, unknown_pieces
from semdlm_jax.errors import UserError
from semdlm_jax.options import counted

BLANK = r"\[(_+)\]"
NO_BLANK = re.compile(r"\[\s*_+|_+\s*\]")  # of which one bracket is missing, or that holds a space


class Condition(NamedTuple):
    """text: what the user gave. start: [S] int32, what the text starts with, 0 where free. known: [S] bool, where it is
    not. end: [E] int32, what the text ends with."""

    text: str = ""
    start: np.ndarray = np.zeros(0, np.int32)
    known: np.ndarray = np.zeros(0, bool)
    end: np.ndarray = np.zeros(0, np.int32)

    @property
    def only_prompt(self):
        """Whether nothing is given behind a free position."""
        return not len(self.end) and bool((np.diff(self.known.astype(np.int8)) <= 0).all())

    @property
    def least(self):
        """Tokens of the shortest text that holds it and has something to write."""
        return len(self.start) + len(self.end) + bool(self.known.all())

    def lay(self, size):
        """(tokens [size] int32, 0 where free, given [size] bool) of a text of `size` >= least tokens."""
        tokens, given = np.zeros(size, np.int32), np.zeros(size, bool)
        tokens[: len(self.start)], given[: len(self.start)] = self.start, self.known
        tokens[size - len(self.end) :], given[size - len(self.end) :] = self.end, True
        return tokens, given


class Layout(NamedTuple):
    """Rows to be written. tokens: [B, L] int32, 0 where free. given: [B, L] bool, where they stand; padding is given.
    lengths: [B] int32, tokens before padding; None under a protocol without."""

    tokens: np.ndarray
    given: np.ndarray
    lengths: np.ndarray | None


def lay_out(conditions: Sequence[Condition], rows: Rows, generator: np.random.Generator) -> Layout:
    """A row for every Condition, as rows of the protocol are: begin and end tokens in their places.

    Args:
      conditions: what each row must hold.
      rows: of the train split. Where they are padded, each row gets the length of one of them that holds its
        condition, drawn at random; L when none does.
      generator: numpy.random.Generator, of these draws.
    """
    parts = []
    for condition in conditions:
        sizes = rows.sizes - 2 * rows.has_bos_eos
        fitting = sizes[sizes >= condition.least]
        tokens, given = condition.lay(int(generator.choice(fitting)) if len(fitting) else rows.max_text_len)
        framed, inside = rows.frame(tokens)
        free = np.zeros(rows.length, bool)
        free[rows.has_bos_eos : rows.has_bos_eos + len(given)] = ~given
        parts.append((framed, ~free, inside.sum()))
    tokens, given, lengths = (np.stack(part) for part in zip(*parts, strict=True))
    return Layout(tokens, given, lengths.astype(np.int32) if rows.padded else None)


def continue_from(
    tokenizer: Tokenizer, prompt: str, room: int, suffix: str = "", name: str = "the prompt"
) -> Condition:
    """The Condition of a text that starts with a prompt and ends with a suffix.

    Args:
      tokenizer: of the model.
      prompt: what the text starts with.
      room: tokens of text that a row holds.
      suffix: what it ends with. Where this begins with a space it begins a new word, else it goes on with the word
        that is written before it.
      name: what messages call the prompt.

    Raises:
      UserError: the two leave no token to write.
    """
    start, end = tokenizer.encode(prompt), np.array(_encode_between(tokenizer, suffix, True, False), np.int32)
    _check_room(f"{name} with the suffix" if suffix else name, len(start) + len(end), room)
    return Condition(prompt + (" … " + suffix.strip() if suffix else ""), start, np.ones(len(start), bool), end)


def fill_in(tokenizer: Tokenizer, template: str, room: int) -> Condition:
    """The Condition of a text that starts with a template.

    `[___]` is a blank of as many tokens as it has underscores. Text right after a blank goes on with the blank's last
    word; after a space it begins a new one. What follows the template is free.

    Args:
      tokenizer: of the model.
      template: the text with blanks.
      room: tokens of text that a row holds.

    Raises:
      UserError: no blank, part of one, or a template of more than `room` tokens.
    """
    parts = re.split(BLANK, template)
    if len(parts) == 1:
        raise UserError("the infilling text has no blank: write one as [___], an underscore for each token to fill in")
    if found := next(filter(None, map(NO_BLANK.search, parts[::2])), None):
        raise UserError(f"{found[0]!r} in the infilling text is no whole blank: write one as [___]")
    start, known = [], []
    for index, part in enumerate(parts):
        blank = index % 2
        ids = [0] * len(part) if blank else _encode_between(tokenizer, part, index > 0, index < len(parts) - 1)
        start += ids
        known += [not blank] * len(ids)
    if len(start) > room:
        raise UserError(
            f"the infilling text takes {counted(len(start), 'token')} but the context holds {room}: shorten it"
        )
    return Condition(template, np.array(start, np.int32), np.array(known, bool))


def _encode_between(tokenizer, text, after_blank, before_blank):
    """[ids] of text beside blanks: a line break next to a blank stays, where the tokenizer keeps line breaks. A space
    before one is left to the word that follows, where pieces begin with theirs."""
    encode = tokenizer.encode_after if after_blank else tokenizer.encode
    if tokenizer.keeps_space:
        return encode(text.rstrip(" ") if before_blank and marks_words(tokenizer) else text).tolist()
    ids = encode(text).tolist() if text.strip() else []
    if tokenizer.newline_id is None:
        return ids
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    lead = [tokenizer.newline_id] * (after_blank and "\n" in before)
    tail = [tokenizer.newline_id] * (before_blank and "\n" in after and bool(text.strip() or not lead))
    return lead + ids + tail


def make_conditions(
    tokenizer: Tokenizer,
    room: int,
    prompts: Mapping[str, str],
    suffix: str,
    infill: str | None,
    names: Mapping[str, str],
    tell: Callable[[str], None],
) -> list[Condition]:
    """The Condition of every prompt, or of the text with blanks where there is one.

    Args:
      tokenizer: of the model.
      room: tokens of text that a row holds.
      prompts: {what messages call it: text}.
      suffix: what every text ends with, '' for nothing.
      infill: a text with blanks, None for none.
      names: what messages call 'prompt', 'suffix' and 'infill'.
      tell: takes a line on what the vocabulary lacks.

    Raises:
      UserError: the vocabulary knows nothing of a text, or a text is too long for `room` tokens.
    """
    if infill is not None:
        tell_unknown(tokenizer, {names["infill"]: [text_of(infill)]}, tell)
        return [fill_in(tokenizer, infill, room)]
    tell_unknown(tokenizer, {names["prompt"]: list(prompts.values()), names["suffix"]: [suffix]}, tell)
    return [continue_from(tokenizer, text, room, suffix, name) for name, text in prompts.items()]


def text_of(template: str) -> str:
    """What a template gives, without its blanks."""
    return re.sub(BLANK, " ", template)


def tell_unknown(
    tokenizer: Tokenizer, given: Mapping[str, Sequence[str]], tell: Callable[[str], None] = lambda line: None
) -> None:
    """Tells what of texts the vocabulary lacks or leaves out.

    Args:
      tokenizer: of the model.
      given: {flag: texts}.
      tell: takes a line for each flag and fault.

    Raises:
      UserError: the vocabulary knows nothing of one text.
    """
    for flag, texts in given.items():
        for text in filter(str.strip, texts):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UserError(f"{flag} is not UTF-8 text: convert it to UTF-8") from None
            if not any(tokenizer.texts[i] for i in tokenizer.encode(text)):
                raise UserError(
                    f"{flag}: the vocabulary knows nothing of {text[:60]!r}: give text like what the run was trained on"
                )
        if dropped := dropped_characters(tokenizer, "".join(texts)):
            named = ", ".join(f"U+{ord(character):04X}" for character in dropped[:UNKNOWN_NAMED])
            more = ", …" * (len(dropped) > UNKNOWN_NAMED)
            tell(f"{flag}: characters that the vocabulary leaves out: {named}{more}")
        unknown = unknown_pieces(tokenizer, " ".join(texts))
        if unknown.count:
            tell(f"{flag}: {unknown.describe()}; {tokenizer.pieces[tokenizer.unk_id]} stands for what is not known")


def read_prompts(path: str) -> dict[int, str]:
    """{number: line} of the lines of a UTF-8 file, .gz or not, that hold text; they end at a line feed alone.
    UserError: no such file, or nothing in it."""
    try:
        prompts = dict(read_numbered_lines(path))
    except UserError as error:
        raise UserError(f"--prompts={error}") from None
    if not prompts:
        raise UserError(f"--prompts={path} holds no text: give a prompt a line")
    return prompts


def _check_room(what, count, room):
    if count >= room:
        raise UserError(f"{what} has {counted(count, 'token')} but the context holds {room}: shorten it")
