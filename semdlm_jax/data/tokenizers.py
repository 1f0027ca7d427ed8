"""Text to ids and back: one normalisation for training, prompts and scoring, and a SentencePiece vocabulary."""

import dataclasses
import hashlib
import io
import json
import pathlib
import re
import unicodedata

import numpy as np
import sentencepiece

from semdlm_jax.errors import UserError

SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
MAX_TRAINING_CHARACTERS = 20_000_000  # larger corpora are thinned evenly: the vocabulary settles long before

_ASCII = {
    **dict.fromkeys(map(ord, "‘’‚‛′"), "'"),
    **dict.fromkeys(map(ord, "“”„‟″«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–−"), "-"),
    **dict.fromkeys(map(ord, "—―"), "--"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\ufeff")),  # soft hyphen, zero-width space, byte order mark: dropped
    ord("⁄"): "/",  # what NFKC makes of ½
    ord("▁"): "_",  # SentencePiece's own mark for a space
    **dict.fromkeys((*range(9), *range(14, 28), *range(127, 133), *range(134, 160)), " "),  # control characters
}
_BREAKS = "\n\v\f\r\x85\u2028\u2029"


def normalise(text, lowercase):
    """NFKC, ASCII quotes and dashes, single spaces, every run of line or paragraph breaks one newline. Idempotent."""
    text = unicodedata.normalize("NFKC", text.translate(_ASCII)).translate(_ASCII)  # NFKC takes some quotes apart
    if lowercase:
        text = unicodedata.normalize("NFKC", text.lower())
    text = re.sub(rf"[^\S{_BREAKS}]+", " ", text)
    return re.sub(rf" ?[{_BREAKS}]\s*", "\n", text).strip()


@dataclasses.dataclass(frozen=True)
class SentencePieceTokenizer:
    """A unigram SentencePiece vocabulary over normalised text; '\\n' is a piece of its own.

    Paragraphs are encoded one by one, so a word has the same pieces after a line break as after a space.
    model: the serialised SentencePiece model. lowercase: whether text is lowercased first.
    """

    model: bytes = dataclasses.field(repr=False)
    lowercase: bool

    pad_id = 0
    unk_id = 1
    bos_id = 2
    eos_id = 3
    mask_id = 4
    special_ids = (0, 1, 2, 3, 4)

    def __post_init__(self):
        processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        pieces = tuple(processor.id_to_piece(i) for i in range(processor.vocab_size()))
        if pieces[: len(SPECIAL_PIECES)] != SPECIAL_PIECES or "\n" not in pieces:
            raise UserError(f"not a vocabulary of this package: its pieces must begin with {' '.join(SPECIAL_PIECES)}")
        identity = json.dumps([pieces, self.lowercase]).encode()
        for name, value in (
            ("_processor", processor),
            ("pieces", pieces),
            ("newline_id", pieces.index("\n")),
            ("fingerprint", hashlib.sha256(identity).hexdigest()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def train(cls, texts, vocab_size, lowercase):
        """Learns a vocabulary from an iterable of texts; deterministic. vocab_size counts the special pieces.

        Characters that together make up less than 1 in 10,000 of the text are left out: they become <unk>.
        UserError: no text, or a vocab_size too small for the characters or too large for the text.
        """
        texts = list(texts)
        stride = -(-sum(map(len, texts)) // MAX_TRAINING_CHARACTERS)
        paragraphs = [line for text in texts for line in normalise(text, lowercase).split("\n") if line]
        if not paragraphs:
            raise UserError("no text to learn a vocabulary from: the training documents are empty")
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(paragraphs[:: max(stride, 1)]),
                model_writer=model,
                vocab_size=vocab_size,
                model_type="unigram",
                normalization_rule_name="identity",
                character_coverage=0.9999,
                pad_id=cls.pad_id,
                unk_id=cls.unk_id,
                bos_id=cls.bos_id,
                eos_id=cls.eos_id,
                control_symbols=["<mask>"],  # control: text spelling "<mask>" is never encoded as the special
                user_defined_symbols=["\n"],
                max_sentence_length=1_000_000,
                num_threads=1,  # the sums of EM depend on how threads divide them
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split()).rpartition("] ")[2]
            raise UserError(f"vocab_size = {vocab_size} does not suit this text: {reason}") from None
        return cls(model.getvalue(), bool(lowercase))

    def save(self, path):
        """Writes PATH and, beside it, the lowercase setting as PATH with the suffix .json."""
        path = pathlib.Path(path)
        path.write_bytes(self.model)
        path.with_suffix(".json").write_text(json.dumps({"lowercase": self.lowercase, "fingerprint": self.fingerprint}))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote. UserError: a file is missing or damaged."""
        path = pathlib.Path(path)
        try:
            tokenizer = cls(path.read_bytes(), json.loads(path.with_suffix(".json").read_text())["lowercase"])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{path}: cannot read the tokenizer ({error}): prepare the data again") from None
        return tokenizer

    @property
    def vocab_size(self):
        return len(self.pieces)

    def encode(self, text):
        """Ids [N] int32 of the text, normalised first; no specials but <unk> for unknown characters."""
        lines = normalise(text, self.lowercase).split("\n")
        ids = []
        for line_ids in self._processor.encode(lines):
            ids += line_ids
            ids.append(self.newline_id)
        return np.array(ids[:-1], np.int32)

    def decode(self, ids):
        """The text of ids [N], specials dropped: inverts `encode` on normalised text without unknown characters."""
        ids = np.asarray(ids, np.int64).ravel()
        ids = ids[~np.isin(ids, self.special_ids)]
        lines = np.split(ids, np.flatnonzero(ids == self.newline_id))
        return "\n".join(self._processor.decode([i for i in line.tolist() if i != self.newline_id]) for line in lines)
