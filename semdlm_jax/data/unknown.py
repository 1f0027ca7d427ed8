"""What of a text a vocabulary cannot spell."""

from typing import NamedTuple

import numpy as np

from semdlm_jax.data.tokenizer import Tokenizer

UNKNOWN_WARNED = 0.01  # a text with a larger unknown share is not what the vocabulary is of: numbers say little of it
UNKNOWN_NAMED = 5  # words in a message


class Unknown(NamedTuple):
    """Words of a text that the vocabulary cannot spell. words: each once, in the text's order. count: how many of the
    text's words they are. total: all of them."""

    words: tuple[str, ...]
    count: int
    total: int

    def describe(self) -> str:
        """For a message: '3 of 7 words are unknown to the vocabulary: Привет, 漢字, …'."""
        named = ", ".join([*self.words[:UNKNOWN_NAMED], *["…"] * (len(self.words) > UNKNOWN_NAMED)])
        verb = "words are" if self.total > 1 else "word is"
        return f"{self.count:,} of {self.total:,} {verb} unknown to the vocabulary" + f": {named}" * bool(named)


def unknown_pieces(tokenizer: Tokenizer, text: str) -> Unknown:
    """The words of a text, between white space, that hold something unknown: encoding leaves <unk> in its place."""
    words = text.split()
    unknown = [w for w, ids in zip(words, tokenizer.encode_batch(words), strict=True) if tokenizer.unk_id in ids]
    return Unknown(tuple(dict.fromkeys(unknown)), len(unknown), len(words))


def dropped_characters(tokenizer: Tokenizer, text: str) -> str:
    """The characters of a text, white space aside, each once, that the vocabulary's way to read text leaves out."""
    found = [character for character in dict.fromkeys(text) if not character.isspace()]
    encoded = tokenizer.encode_batch(found)
    return "".join(character for character, ids in zip(found, encoded, strict=True) if not len(ids))


def unknown_share(tokenizer: Tokenizer, tokens) -> float:
    """Share of <unk> among the tokens of text in an array of ids of any shape; padding, begin, end and masks are none.

    0.0 where there is no text."""
    ids = np.asarray(tokens).ravel().astype(np.int64)
    return unknown_share_of(tokenizer, np.bincount(ids, minlength=tokenizer.vocab_size))


def unknown_share_of(tokenizer: Tokenizer, counts: np.ndarray) -> float:
    """`unknown_share` of tokens that occur so often. counts: [V] int."""
    unknown = int(counts[tokenizer.unk_id])
    text = int(counts.sum()) - int(counts[list(tokenizer.special_ids)].sum()) + unknown
    return unknown / text if text else 0.0


def unknown_remarks(unknown: float) -> tuple[str, ...]:
    """What to tell of a scored text with such a share of unknown tokens: a line where that is much."""
    if unknown <= UNKNOWN_WARNED:
        return ()
    return (
        f"{unknown:.1%} of the text is unknown to the vocabulary: there the score says how well the unknown token is "
        "predicted, not the text",
    )
