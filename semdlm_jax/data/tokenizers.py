"""Text to ids and back: what every tokenizer offers, and how a configuration names one."""

import pathlib
from typing import Protocol

import numpy as np

from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.wordpiece import WordPieceTokenizer, bert_base_uncased
from semdlm_jax.errors import UserError, choose


class Tokenizer(Protocol):
    """A vocabulary of V pieces; the same text has the same ids in training, in a prompt and in scoring.

    pieces: V strings, as the vocabulary marks them. texts: V strings, what each reads, without the marks '▁' and '##';
    '' for specials. starts_word: [V] bool, begins a word; False for continuations, specials and a mark alone.
    special_ids: ids that no text contains (but unk_id): padding, unknown, begin, end, mask, and unused ones.
    newline_id: the piece of a line break, None where line breaks are not kept. fingerprint: sha256 hex of pieces and
    normalisation. FILE: its file's name in a prepared directory.
    """

    pieces: tuple[str, ...]
    texts: tuple[str, ...]
    starts_word: np.ndarray
    special_ids: tuple[int, ...]
    pad_id: int
    unk_id: int
    bos_id: int
    eos_id: int
    mask_id: int
    newline_id: int | None
    vocab_size: int
    lowercase: bool
    fingerprint: str
    FILE: str

    def encode(self, text: str) -> np.ndarray:
        """Ids [N] int32 of a text, normalised first; no specials but unk_id."""

    def encode_batch(self, texts) -> list[np.ndarray]:
        """`encode` of each text."""

    def decode(self, ids) -> str:
        """The text of ids [N], specials dropped."""

    def save(self, path):
        """Writes the vocabulary to PATH and its settings beside it."""


def _sentencepiece(path, lowercase):
    return SentencePieceTokenizer.from_file(path, lowercase) if path else None


def _wordpiece(path, lowercase):
    if not path:
        raise UserError("tokenizer 'wordpiece' needs its vocabulary: give wordpiece:PATH of a vocab.txt")
    return WordPieceTokenizer.from_file(path, lowercase)


def _bert(path, lowercase):
    if path:
        raise UserError(f"tokenizer 'bert-base-uncased' takes no path: give wordpiece:{path}")
    if not lowercase:
        raise UserError("tokenizer 'bert-base-uncased' lowercases its text: set data.lowercase = True")
    return bert_base_uncased()


# name -> function(path or '', lowercase) -> Tokenizer, or None where it is to be learnt
TOKENIZERS = {"sentencepiece": _sentencepiece, "wordpiece": _wordpiece, "bert-base-uncased": _bert}


def given_tokenizer(spec, lowercase):
    """The tokenizer that a `data.tokenizer` names: 'sentencepiece:PATH', 'wordpiece:PATH' or 'bert-base-uncased'; None
    for 'sentencepiece', which is learnt from the training text. UserError: unknown name, no or a bad vocabulary."""
    name, _, path = spec.partition(":")
    return choose("tokenizer", name, TOKENIZERS)(path, lowercase)


def load_tokenizer(directory):
    """The tokenizer in a prepared directory. UserError: none, or damaged."""
    directory = pathlib.Path(directory)
    kind = WordPieceTokenizer if (directory / WordPieceTokenizer.FILE).exists() else SentencePieceTokenizer
    return kind.load(directory / kind.FILE)
