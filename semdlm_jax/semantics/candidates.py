"""Which tokens have neighbors and are some, and which a global jump may produce."""

import re

import numpy as np

from semdlm_jax.errors import choose
from semdlm_jax.semantics.settings import PRIOR_TOKENS

UNUSED = re.compile(r"\[unused\d+\]")  # of BERT: places kept free in the vocabulary
CONTINUATION = "##"  # of WordPiece: a piece that goes on with a word


def candidate_tokens(tokenizer, unigram, min_count, characters="any"):
    """[V] bool: the tokens that have neighbors and are some: never specials or [unused], and not too rare.

    unigram: [V] occurrences in the training split, None when there is no corpus: then min_count says nothing.
    characters: `any` asks for at least one letter or digit, `ascii` for ASCII letters and digits alone, `auto` for the
    second in WordPiece vocabularies, whose single characters of other scripts would enter the lists of everything.
    """
    if characters == "auto":
        characters = "ascii" if is_wordpiece(tokenizer) else "any"
    fits = _is_ascii_alphanumeric if characters == "ascii" else _has_alphanumeric
    wordlike = np.array([fits(text) for text in tokenizer.texts]) & _ordinary(tokenizer)
    return wordlike if unigram is None else wordlike & (np.asarray(unigram) >= min_count)


def prior_tokens(tokenizer, rule="words"):
    """[V] bool: what a global jump may produce, never specials or [unused]. rule: a name of settings.PRIOR_TOKENS.

    words    no pieces that go on with a word, no punctuation alone: Eq. 119
    pieces   no punctuation alone
    any      every token of text
    UserError: an unknown rule.
    """
    choose("rule for the prior", rule, PRIOR_TOKENS)
    valid = _ordinary(tokenizer)
    if rule != "any":
        valid &= np.array([_has_alphanumeric(text) for text in tokenizer.texts])
    return valid & np.asarray(tokenizer.starts_word) if rule == "words" else valid


def is_wordpiece(tokenizer):
    """Whether pieces that go on with a word are marked '##', as BERT's are."""
    return any(piece.startswith(CONTINUATION) and len(piece) > 2 for piece in tokenizer.pieces)


def _has_alphanumeric(text):
    return any(character.isalnum() for character in text)


def _is_ascii_alphanumeric(text):
    return text.isascii() and text.isalnum()


def _ordinary(tokenizer):
    """[V] bool: neither special nor kept free."""
    ordinary = np.array([not UNUSED.fullmatch(piece) for piece in tokenizer.pieces])
    ordinary[list(tokenizer.special_ids)] = False
    return ordinary
