"""SentencePiece vocabularies: learned from the training split, or given as a model file."""

import dataclasses
import hashlib
import io
import itertools
import json
import pathlib
import re
from typing import Any

import google.protobuf.message
import numpy as np
import sentencepiece

from semdlm_jax.data.normalization import spelled
from semdlm_jax.data.sample import Sample, draw_sample
from semdlm_jax.data.sentencepiece_proto import CONTROL, UNKNOWN, UNUSED, ModelProto
from semdlm_jax.data.tokenizer import Tokenizer, derived, unreadable
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular

SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")  # ids 0 to 4 of a vocabulary learned here
# The trainer takes specials' names out of its text, and their letters go unlearned: it gets names no text has.
_UNWRITABLE = "\x01"
_PIECE_KEYS = ("pad_piece", "unk_piece", "bos_piece", "eos_piece")


@dataclasses.dataclass(frozen=True)
class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece vocabulary.

    Lines are encoded one by one, so a word has the same pieces after a line break as after a space. A line break is a
    piece of its own, `newline_id`; in a given vocabulary that has none (newline_id None) it reads as a space. Specials
    that a given vocabulary lacks are appended to it. Text that spells a special is not read as one, whatever the model
    says of it. model: the serialized SentencePiece model. lowercase: whether text is lowercased first. normalized:
    whether it is brought into one form, see `normalization.normalize`; else its spaces and line breaks all stay, as far
    as the model leaves them.

    UserError: not such a model, cut short, or with one piece in two roles.
    """

    model: bytes = dataclasses.field(repr=False)
    lowercase: bool
    normalized: bool = True
    _reading: bytes = derived()  # the model, its specials closed to text
    _processor: sentencepiece.SentencePieceProcessor = derived()
    _processors: dict[bool, sentencepiece.SentencePieceProcessor] = derived()  # see `_prefixing`
    _learned: int = derived()  # pieces that the model itself has
    _unread: np.ndarray = derived()  # [V] bool, specials

    FILE = "tokenizer.model"

    def __post_init__(self):
        proto, processor = _open_model(self.model)
        pieces = [piece.piece for piece in proto.pieces]
        specials = _role_ids(processor, pieces)  # appends those that the model lacks
        control = [i for i in range(len(proto.pieces)) if processor.is_control(i) or processor.is_unused(i)]
        own = tuple(pieces[: len(SPECIAL_PIECES)]) == SPECIAL_PIECES and "\n" in pieces
        identity = [pieces, self.lowercase] + ([] if own else [hashlib.sha256(self.model).hexdigest()])
        identity += [] if self.normalized else ["as it is"]
        special_ids = tuple(sorted({*specials, *control}))
        texts = ["" if i in special_ids else _read(processor, i, piece) for i, piece in enumerate(pieces)]
        starts = [piece.startswith("▁") and bool(text) for piece, text in zip(pieces, texts)]
        reading = _closed_to_text(proto, special_ids) or self.model
        for name, value in (
            ("_reading", reading),
            ("_processor", sentencepiece.SentencePieceProcessor(model_proto=reading)),
            ("_processors", {}),
            ("_learned", len(proto.pieces)),
            ("keeps_space", not self.normalized),  # at the ends of a text
            ("_unread", np.isin(np.arange(len(pieces)), special_ids)),
            *zip(("pad_id", "unk_id", "bos_id", "eos_id", "mask_id"), specials, strict=True),
            ("special_ids", special_ids),
            ("pieces", tuple(pieces)),
            ("texts", tuple(texts)),
            ("starts_word", np.array(starts)),
            ("newline_id", pieces.index("\n") if "\n" in pieces else None),
            ("fingerprint", hashlib.sha256(json.dumps(identity).encode()).hexdigest()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def train(cls, texts, vocab_size, lowercase, normalized=True, byte_fallback=False):
        """`learn` from an iterable of texts, or a sample of their lines, as `draw_sample` takes it."""
        sample = draw_sample(texts, lowercase, normalized)
        return cls.learn(sample, vocab_size, lowercase, normalized, byte_fallback)

    @classmethod
    def learn(
        cls, sample: Sample, vocab_size: int, lowercase: bool, normalized: bool = True, byte_fallback: bool = False
    ) -> "SentencePieceTokenizer":
        """Learns a vocabulary from a sample, which this empties; deterministic. vocab_size counts the special pieces.

        Characters that together make up less than 1 in 10,000 of the text are left out: they become <unk>, or with
        byte_fallback the bytes of UTF-8, which take 256 of the pieces.
        UserError: no text, or a vocab_size too small for the characters or too large for the text.
        """
        lines = sample.taken()
        if (first := next(lines, None)) is None:
            raise UserError("no text to learn a vocabulary from: the training documents are empty")
        model = io.BytesIO()
        names: dict[str, Any] = {key: _UNWRITABLE + piece for key, piece in zip(_PIECE_KEYS, SPECIAL_PIECES)}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=itertools.chain([first], lines),
                model_writer=model,
                vocab_size=vocab_size,
                model_type="unigram",
                normalization_rule_name="identity",
                remove_extra_whitespaces=normalized,
                byte_fallback=byte_fallback,
                character_coverage=0.9999,
                pad_id=0,
                unk_id=1,
                bos_id=2,
                eos_id=3,
                **names,
                control_symbols=[_UNWRITABLE + SPECIAL_PIECES[4]],
                user_defined_symbols=["\n"],
                max_sentence_length=1_000_000,
                num_threads=1,  # the sums of EM depend on how threads divide them
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split()).rpartition("] ")[2]
            if found := re.search(r"set it to a value <= (\d+)", reason):
                mend = f"is more pieces than can be learned from this text: set it to {found[1]} or less"
            elif found := re.search(r"required_chars\. (\d+) vs (\d+)", reason):
                mend = f"is too small for the characters of this text: set it to {found[2]} or more"
            else:
                mend = f"does not suit this text ({reason}): set it to another number"
            raise UserError(f"data.vocab_size = {vocab_size} {mend}, in every command that reads these data") from None
        return cls(_renamed(model.getvalue()), bool(lowercase), bool(normalized))

    def save(self, path):
        """Writes PATH and, beside it, the lowercase setting as PATH with the suffix .json."""
        path = pathlib.Path(path)
        path.write_bytes(self.model)
        settings = {"lowercase": self.lowercase, "normalized": self.normalized, "fingerprint": self.fingerprint}
        path.with_suffix(".json").write_text(json.dumps(settings))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote. UserError: a file is missing or damaged."""
        path = pathlib.Path(path)
        try:
            settings = json.loads(path.with_suffix(".json").read_text())
            return cls(path.read_bytes(), settings["lowercase"], settings.get("normalized", True))
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            raise unreadable(path, error) from None

    @classmethod
    def from_file(cls, path, lowercase, normalized=True):
        """The vocabulary of a SentencePiece model file, made by whomever. UserError: missing, or not such a file."""
        check_regular(path)
        try:
            return cls(pathlib.Path(path).read_bytes(), bool(lowercase), bool(normalized))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): give a SentencePiece model file") from None
        except _BadModel as error:
            raise UserError(f"{path}: {error}") from None

    def encode_batch(self, texts):
        """`encode` of each text: a list of [N_i] int32."""
        lines = [spelled(text, self.lowercase, self.normalized) for text in texts]
        encoded = iter(self._processor.encode([line for lines_of_one in lines for line in lines_of_one]))
        between = () if self.newline_id is None else (self.newline_id,)
        results = []
        for lines_of_one in lines:
            ids = []
            for number, _ in enumerate(lines_of_one):
                line = next(encoded)
                if (ids and line) if self.normalized else number:
                    ids += between
                ids += line
            results.append(self._as_text(ids))
        return results

    def encode_after(self, text: str) -> np.ndarray:
        """`encode`, but '▁' stands before the first word where the text begins with white space, and only there."""
        first, *rest = spelled(text, self.lowercase, self.normalized)
        space = text[:1].isspace() if self.normalized else first[:1] == " "
        ids = self._prefixing(space).encode(first if self.normalized else first.removeprefix(" "))
        if not rest:
            return self._as_text(ids)
        between = [] if self.newline_id is None else [self.newline_id]
        return np.concatenate([self._as_text(ids + between), self.encode("\n".join(rest))])

    def _as_text(self, ids):
        """[N] int32 of a list of ids: a vocabulary of whole words finds specials by their names too."""
        ids = np.array(ids, np.int32)
        ids[self._unread[ids]] = self.unk_id
        return ids

    def _prefixing(self, space):
        """The processor that puts a space before all that it encodes, or none: models have either as their own."""
        if space not in self._processors:
            model = ModelProto.FromString(self._reading)
            model.normalizer_spec.add_dummy_prefix = space
            processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
            self._processors[space] = processor
        return self._processors[space]

    def decode(self, ids):
        """The text of ids [N], specials dropped: inverts `encode` on normalized text without unknown characters."""
        ids = np.asarray(ids, np.int64).ravel()
        ids = ids[~np.isin(ids, self.special_ids) & (ids < self._learned)]
        if self.newline_id is None:
            return self._processor.decode(ids.tolist())
        lines = np.split(ids, np.flatnonzero(ids == self.newline_id))
        return "\n".join(self._processor.decode([i for i in line.tolist() if i != self.newline_id]) for line in lines)


class _BadModel(UserError):
    """What is wrong with a model, and the mend; without the name of its file."""


def _renamed(model):
    """A model just learned, its specials under their own names, which are the trainer's defaults."""
    proto = ModelProto.FromString(model)
    for piece, name in zip(proto.pieces, SPECIAL_PIECES):
        piece.piece = name
    for key in _PIECE_KEYS:
        proto.trainer_spec.ClearField(key)
    proto.trainer_spec.control_symbols[:] = SPECIAL_PIECES[4:]
    return proto.SerializeToString()


def _open_model(model):
    """(its ModelProto, its processor)."""
    proto = ModelProto()
    try:
        proto.ParseFromString(model)
        whole = proto.pieces and proto.HasField("trainer_spec") and proto.HasField("normalizer_spec")
        processor = sentencepiece.SentencePieceProcessor(model_proto=model) if whole else None
    except (google.protobuf.message.DecodeError, RuntimeError):
        processor = None
    if processor is None:
        state = "not a SentencePiece model, or one cut short" if model else "an empty file"
        raise _BadModel(f"{state}: give the .model file that spm_train wrote")
    return proto, processor


def _read(processor, index, piece):
    """What a piece reads, without the mark of a space. A byte is part of a character, unless it is one."""
    if index < processor.get_piece_size() and processor.is_byte(index):
        return bytes([int(piece[1:-1], 16)]).decode(errors="replace")
    return piece.replace("▁", "")


def _role_ids(processor, pieces):
    """Ids of padding, unknown, begin, end and mask: the model's own where it has them (-1: none), else a piece of that
    name, else one appended to `pieces`."""
    roles = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id(), -1)
    ids = []
    for piece, index in zip(SPECIAL_PIECES, roles):
        if index < 0 and piece not in pieces:
            pieces.append(piece)
        ids.append(index if index >= 0 else pieces.index(piece))
    if shared := [pieces[i] for i in ids if ids.count(i) > 1]:
        raise _BadModel(
            f"its piece {shared[0]!r} would be two of padding, unknown, begin, end and mask: give a model that has a "
            "piece for each, or none"
        )
    return ids


def _closed_to_text(proto, special_ids):
    """The serialized model whose special pieces are control pieces, with which text is never encoded; None where the
    model's own are."""
    named = [proto.pieces[i] for i in special_ids if i < len(proto.pieces)]
    open_to_text = [piece for piece in named if piece.type not in (CONTROL, UNKNOWN, UNUSED)]
    for piece in open_to_text:
        piece.type = CONTROL
    return proto.SerializeToString() if open_to_text else None
