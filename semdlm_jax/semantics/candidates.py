"""Which tokens can have neighbors and be neighbors, and which a global jump may produce."""

import re

import numpy as np

from semdlm_jax.data.tokenizers import Tokenizer
from semdlm_jax.errors import choose
from semdlm_jax.semantics.settings import PRIOR_TOKENS

UNUSED = re.compile(r"\[unused\d+\]")  # of BERT: ids reserved in the vocabulary
CONTINUATION = "##"  # of WordPiece: before a piece that continues a word


def candidate_tokens(
    tokenizer: Tokenizer, unigram: np.ndarray | None, min_count: int, characters: str = "any"
) -> np.ndarray:
    """The tokens that can have neighbors and be neighbors: not special, not [unused], and not too rare.

    Args:
        tokenizer: of the vocabulary.
        unigram: [V] occurrences in the training split; None without a corpus, where min_count is not applied.
        min_count: occurrences below which a token is left out.
        characters: `any` asks for at least one letter or digit, `ascii` for ASCII letters and digits alone; `auto` is
            `ascii` in WordPiece vocabularies, whose single characters of other scripts would be in most lists, and
            `any` in others.

    Returns:
        [V] bool.
    """
    if characters == "auto":
        characters = "ascii" if is_wordpiece(tokenizer) else "any"
    fits = _is_ascii_alphanumeric if characters == "ascii" else _has_alphanumeric
    wordlike = np.array([fits(text) for text in tokenizer.texts]) & _ordinary(tokenizer)
    return wordlike if unigram is None else wordlike & (np.asarray(unigram) >= min_count)


def prior_tokens(tokenizer: Tokenizer, rule: str = "words") -> np.ndarray:
    """What a global jump may produce: never special tokens or [unused].

    Args:
        tokenizer: of the vocabulary.
        rule: a name of settings.PRIOR_TOKENS: `words` leaves out pieces that continue a word, and punctuation, as
            Eq. 119 does; `pieces` leaves out punctuation; `any` takes every token of text.

    Returns:
        [V] bool.

    Raises:
        UserError: an unknown rule.
    """
    choose("rule for the prior", rule, PRIOR_TOKENS)
    valid = _ordinary(tokenizer)
    if rule != "any":
        valid &= np.array([_has_alphanumeric(text) for text in tokenizer.texts])
    return valid & np.asarray(tokenizer.starts_word) if rule == "words" else valid


def is_wordpiece(tokenizer: Tokenizer) -> bool:
    """Whether pieces that continue a word are marked '##', as BERT's are."""
    return any(piece.startswith(CONTINUATION) and len(piece) > 2 for piece in tokenizer.pieces)


def _has_alphanumeric(text):
    return any(character.isalnum() for character in text)


def _is_ascii_alphanumeric(text):
    return text.isascii() and text.isalnum()


def _ordinary(tokenizer):
    """[V] bool: neither special nor reserved."""
    ordinary = np.array([not UNUSED.fullmatch(piece) for piece in tokenizer.pieces])
    ordinary[list(tokenizer.special_ids)] = False
    return ordinary
