"""Text to ids and back: what every tokenizer offers, and how a configuration names one."""

import contextlib
import pathlib
from typing import NamedTuple, Protocol

import numpy as np

from semdlm_jax.data.description import MARK
from semdlm_jax.data.hub import tokenizer_file
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.wordpiece import WordPieceTokenizer, bert_base_uncased
from semdlm_jax.errors import UserError, choose

UNKNOWN_WARNED = 0.01  # a text with a larger unknown share is not what the vocabulary is of: numbers say little of it
UNKNOWN_NAMED = 5  # words in a message


class Tokenizer(Protocol):
    """A vocabulary of V pieces; the same text has the same ids in training, in a prompt and in scoring.

    pieces: V strings, as the vocabulary marks them. texts: V strings, what each reads, without the marks '▁' and '##';
    '' for specials. starts_word: [V] bool, begins a word; False for continuations, specials and a mark alone.
    special_ids: ids that no text contains (but unk_id): padding, unknown, begin, end, mask, and unused ones.
    newline_id: the piece of a line break, None where line breaks are not kept or not one piece. keeps_space: whether
    white space at the ends of a text is encoded like any other; else `encode` drops it. fingerprint: sha256 hex of
    pieces and normalization. FILE: its file's name in a prepared directory.
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
    keeps_space: bool
    vocab_size: int
    lowercase: bool
    fingerprint: str
    FILE: str

    def encode(self, text: str) -> np.ndarray:
        """Ids [N] int32 of a text, normalized first; no specials but unk_id."""

    def encode_batch(self, texts) -> list[np.ndarray]:
        """`encode` of each text."""

    def encode_after(self, text: str) -> np.ndarray:
        """Ids [N] int32 of text that stands behind other text: where it begins with white space it begins a new word,
        else it goes on with the last one."""

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


def _tokenizer_json(path, lowercase):
    if not path:
        raise UserError("tokenizer 'tokenizer' needs its vocabulary: give tokenizer:PATH of a tokenizer.json")
    if pathlib.Path(path).suffix == ".json":
        with contextlib.suppress(UserError):  # which tells how it encodes otherwise than BERT does
            return WordPieceTokenizer.from_file(path, lowercase)
    return HuggingFaceTokenizer.from_file(path, lowercase)


def _hub(name, lowercase):
    if not name:
        raise UserError("tokenizer 'hf' needs a model: give hf:NAME of a directory or of the local Hugging Face cache")
    return _tokenizer_json(tokenizer_file(name), lowercase)


def _bytes(path, lowercase):
    _check_no_path("bytes", path)
    return HuggingFaceTokenizer.of_bytes(lowercase)


def _characters(path, lowercase):
    del lowercase
    _check_no_path("characters", path)


def _check_no_path(name, path):
    if path:
        raise UserError(f"tokenizer {name!r} takes no path: write data.tokenizer={name}")


# name -> function(path or '', lowercase) -> Tokenizer, or None where it is to be learnt
TOKENIZERS = {
    "sentencepiece": _sentencepiece,
    "wordpiece": _wordpiece,
    "bert-base-uncased": _bert,
    "tokenizer": _tokenizer_json,
    "hf": _hub,
    "characters": _characters,
    "bytes": _bytes,
}
KINDS = (WordPieceTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer)  # whose FILE a prepared directory holds


def given_tokenizer(spec, lowercase):
    """The tokenizer that a `data.tokenizer` names, e.g. 'tokenizer:PATH'; None for 'sentencepiece' and 'characters',
    which are learnt from the training text. UserError: unknown name, no or a bad vocabulary."""
    name, _, path = spec.partition(":")
    return choose("tokenizer", name, TOKENIZERS)(path, lowercase)


def load_tokenizer(directory):
    """The tokenizer in a prepared directory. UserError: none, or damaged."""
    directory = pathlib.Path(directory)
    kind = next((kind for kind in KINDS if (directory / kind.FILE).exists()), SentencePieceTokenizer)
    return kind.load(directory / kind.FILE)


def marks_words(tokenizer: Tokenizer) -> bool:
    """Whether pieces hold the space before a word, marked '▁', and not in a piece of its own alone."""
    return any(piece[:1] == MARK and text for piece, text in zip(tokenizer.pieces, tokenizer.texts, strict=True))


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
