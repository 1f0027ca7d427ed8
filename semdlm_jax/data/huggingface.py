"""Vocabularies as the library `tokenizers` describes them: any tokenizer.json, characters and bytes."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable

import numpy as np
import tokenizers

from semdlm_jax.data.description import MARK, Described, describe, without_prefix
from semdlm_jax.data.files import read_contents
from semdlm_jax.data.tokenizer import Tokenizer, derived, unreadable
from semdlm_jax.data.wordpiece import ids_in_groups
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular

REPLACEMENT = "\ufffd"  # what part of a character decodes to
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
# How byte-level vocabularies spell a byte: {character: byte}. Those that cannot be printed follow each other from 256.
_SPELLED = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}


@dataclasses.dataclass(frozen=True)
class HuggingFaceTokenizer(Tokenizer):
    """A vocabulary with its own way to encode, as the library `tokenizers` describes it.

    Nothing is done to text but what the file says, and lower case on request. Byte-level vocabularies restore text
    exactly. Specials that the file lacks follow its own ids. Text that spells a special is not read as one. `pieces`
    marks a space as '▁', whatever the file does. model: the text of a tokenizer.json. lowercase: whether text is
    lowercased first.

    UserError: not such a text.
    """

    model: str = dataclasses.field(repr=False)
    lowercase: bool
    _backend: tokenizers.Tokenizer = derived()
    _inside: tokenizers.Tokenizer = derived()  # for text that stands behind other text
    _special: np.ndarray = derived()  # [V] bool

    FILE = "tokenizer.huggingface"

    def __post_init__(self):
        described = describe(self.model)
        backend, inside = _backend(described.library), _backend(without_prefix(described.library))
        special = np.isin(np.arange(len(described.pieces)), described.special_ids)
        read = backend.decode_batch([[i] for i in range(len(special))], skip_special_tokens=False)
        pieces = [
            piece if closed else _shown(piece, text, described)
            for piece, text, closed in zip(described.pieces, read, special, strict=True)
        ]
        texts = tuple(
            "" if closed else text.removeprefix(described.continuing).strip(" ")
            for text, closed in zip(read, special, strict=True)
        )
        identity = json.dumps(["huggingface", json.loads(self.model), self.lowercase], sort_keys=True).encode()
        for name, value in (
            ("_backend", backend),
            ("_inside", inside),
            ("_special", special),
            *zip(("pad_id", "unk_id", "bos_id", "eos_id", "mask_id"), described.roles, strict=True),
            ("special_ids", described.special_ids),
            ("pieces", tuple(pieces)),
            ("texts", texts),
            ("starts_word", _starts_word(pieces, texts, described.continuing)),
            ("fingerprint", hashlib.sha256(identity).hexdigest()),
        ):
            object.__setattr__(self, name, value)
        alone = self.encode_after("\n").tolist()
        kept = len(alone) == 1 and not special[alone[0]] and self.decode(alone) == "\n"
        object.__setattr__(self, "newline_id", alone[0] if kept else None)
        object.__setattr__(self, "keeps_space", len(self.encode(" \n ")) > 0)

    @classmethod
    def from_file(cls, path, lowercase):
        """The vocabulary of a tokenizer.json. UserError: missing, or not such a file."""
        check_regular(path)
        text = read_contents(path)
        try:
            return cls(text, bool(lowercase))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def of_bytes(cls, lowercase):
        """The 256 bytes of UTF-8, id by id."""
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        return cls(_text(_SPELLED, pre_tokenizer=level, decoder=level), bool(lowercase))

    @classmethod
    def of_characters(cls, texts: Iterable[str], lowercase):
        """Every character of the texts, in the order of Unicode. UserError: there is none."""
        found = set()
        for text in texts:
            found.update(text.lower() if lowercase else text)
        if not found:
            raise UserError("no text to learn an alphabet from: the training documents are empty")
        vocabulary = {character: i for i, character in enumerate(sorted(found))}
        return cls(_text(vocabulary, pre_tokenizer=None, decoder={"type": "Fuse"}), bool(lowercase))

    def save(self, path):
        """Writes PATH and, beside it, the lowercase setting as PATH with the suffix .json."""
        path = pathlib.Path(path)
        path.write_text(self.model, encoding="utf-8", newline="\n")
        path.with_suffix(".json").write_text(json.dumps({"lowercase": self.lowercase, "fingerprint": self.fingerprint}))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote. UserError: a file is missing or damaged."""
        path = pathlib.Path(path)
        try:
            settings = json.loads(path.with_suffix(".json").read_text())
            return cls(path.read_text(encoding="utf-8"), settings["lowercase"])
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            raise unreadable(path, error) from None

    def encode_batch(self, texts) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""
        return self._encode(self._backend, texts)

    def encode_after(self, text: str) -> np.ndarray:
        """`encode`, without the space that some vocabularies put before every text."""
        return self._encode(self._inside, [text])[0]

    def _encode(self, backend, texts):
        encoded = ids_in_groups(backend, (text.lower() if self.lowercase else text for text in texts))
        return [np.where(self._special[ids], self.unk_id, ids).astype(np.int32) for ids in encoded]

    def decode(self, ids) -> str:
        """The text of ids [N], specials dropped: inverts `encode` where the vocabulary keeps all of a text, as
        byte-level ones do."""
        ids = np.asarray(ids, np.int64).ravel()
        return self._backend.decode(ids[~self._special[ids]].tolist(), skip_special_tokens=False)


def _backend(library):
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(library))
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise UserError(f"tokenizers cannot read it ({reason}): give a tokenizer.json that it wrote") from None


def _shown(piece, text, described: Described):
    """The piece as a reader sees it: of a byte-level vocabulary its text, or its bytes where they are none."""
    if not described.byte_level:
        return piece.replace(" ", MARK)
    if REPLACEMENT not in text:
        return text.replace(" ", MARK)
    return "".join(f"<0x{_SPELLED[character]:02X}>" if character in _SPELLED else character for character in piece)


def _starts_word(pieces, texts, continuing):
    """[V] bool. Where no piece says whether it begins a word, as in an alphabet, each may."""
    written = np.array([bool(text.strip()) for text in texts])
    marked = np.array([piece.startswith(MARK) for piece in pieces]) & written
    if marked.any():
        return marked
    return written & np.array([not (continuing and piece.startswith(continuing)) for piece in pieces])


def _text(vocabulary, pre_tokenizer, decoder):
    """A tokenizer.json of pieces that nothing merges. vocabulary: {piece: id}."""
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    return json.dumps({"model": model, "pre_tokenizer": pre_tokenizer, "decoder": decoder}, sort_keys=True)
