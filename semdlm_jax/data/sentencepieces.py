"""SentencePiece vocabularies: learnt from the training split, or given as a model file."""

import dataclasses
import hashlib
import io
import json
import pathlib

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from semdlm_jax.data.normalisation import normalise
from semdlm_jax.errors import UserError

SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")  # ids 0 to 4 of a vocabulary learnt here
MAX_TRAINING_CHARACTERS = 20_000_000  # larger corpora are thinned evenly: the vocabulary settles long before


@dataclasses.dataclass(frozen=True)
class SentencePieceTokenizer:
    """A SentencePiece vocabulary over normalised text, with the interface of `tokenizers.Tokenizer`.

    Lines are encoded one by one, so a word has the same pieces after a line break as after a space. A line break is a
    piece of its own, `newline_id`; in a given vocabulary that has none (newline_id None) it reads as a space. Specials
    that a given vocabulary lacks are appended to it. model: the serialised SentencePiece model. lowercase: whether
    text is lowercased first.
    """

    model: bytes = dataclasses.field(repr=False)
    lowercase: bool

    FILE = "tokenizer.model"

    def __post_init__(self):
        processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
        # Ids by role: the model's own where it has them (-1: none), else a piece of that name, else one appended.
        roles = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id(), -1)
        specials = []
        for piece, index in zip(SPECIAL_PIECES, roles):
            if index < 0 and piece not in pieces:
                pieces.append(piece)
            specials.append(index if index >= 0 else pieces.index(piece))
        control = [i for i in range(processor.vocab_size()) if processor.is_control(i) or processor.is_unused(i)]
        own = tuple(pieces[: len(SPECIAL_PIECES)]) == SPECIAL_PIECES and "\n" in pieces
        identity = [pieces, self.lowercase] + ([] if own else [hashlib.sha256(self.model).hexdigest()])
        special_ids = tuple(sorted({*specials, *control}))
        texts = ["" if i in special_ids else piece.replace("▁", "") for i, piece in enumerate(pieces)]
        starts = [piece.startswith("▁") and bool(text) for piece, text in zip(pieces, texts)]
        for name, value in (
            ("_processor", processor),
            ("_processors", {}),
            ("_learnt", processor.vocab_size()),
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
    def train(cls, texts, vocab_size, lowercase):
        """Learns a vocabulary from an iterable of texts; deterministic. vocab_size counts the special pieces.

        Characters that together make up less than 1 in 10,000 of the text are left out: they become <unk>. Texts are
        read once; of more than MAX_TRAINING_CHARACTERS, every second, fourth, … is taken, so that memory is bounded.
        UserError: no text, or a vocab_size too small for the characters or too large for the text.
        """
        paragraphs = [line for text in _thinned(texts) for line in normalise(text, lowercase).split("\n") if line]
        if not paragraphs:
            raise UserError("no text to learn a vocabulary from: the training documents are empty")
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(paragraphs),
                model_writer=model,
                vocab_size=vocab_size,
                model_type="unigram",
                normalization_rule_name="identity",
                character_coverage=0.9999,
                pad_id=0,
                unk_id=1,
                bos_id=2,
                eos_id=3,
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
            return cls(path.read_bytes(), json.loads(path.with_suffix(".json").read_text())["lowercase"])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{path}: cannot read the tokenizer ({error}): prepare the data again") from None

    @classmethod
    def from_file(cls, path, lowercase):
        """The vocabulary of a SentencePiece model file, made by whomever. UserError: missing, or not such a file."""
        try:
            return cls(pathlib.Path(path).read_bytes(), bool(lowercase))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): give a SentencePiece model file") from None
        except RuntimeError:
            raise UserError(f"{path}: not a SentencePiece model: give the .model file that spm_train wrote") from None

    @property
    def vocab_size(self):
        return len(self.pieces)

    def encode(self, text):
        """Ids [N] int32 of the text, normalised first; no specials but <unk> for unknown characters."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts):
        """`encode` of each text: a list of [N_i] int32."""
        lines = [normalise(text, self.lowercase).split("\n") for text in texts]
        encoded = iter(self._processor.encode([line for lines_of_one in lines for line in lines_of_one]))
        between = () if self.newline_id is None else (self.newline_id,)
        results = []
        for lines_of_one in lines:
            ids = list(next(encoded))
            for _ in lines_of_one[1:]:
                ids += between
                ids += next(encoded)
            results.append(np.array(ids, np.int32))
        return results

    def encode_after(self, text: str) -> np.ndarray:
        """`encode`, but '▁' stands before the first word where the text begins with white space, and only there."""
        first, *rest = normalise(text, self.lowercase).split("\n")
        ids = self._prefixing(text[:1].isspace()).encode(first)
        if not rest:
            return np.array(ids, np.int32)
        between = [] if self.newline_id is None else [self.newline_id]
        return np.concatenate([np.array(ids + between, np.int32), self.encode("\n".join(rest))])

    def _prefixing(self, space):
        """The processor that puts a space before all that it encodes, or none: models have either as their own."""
        if space not in self._processors:
            model = sentencepiece_model_pb2.ModelProto.FromString(self.model)
            model.normalizer_spec.add_dummy_prefix = space
            processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
            self._processors[space] = processor
        return self._processors[space]

    def decode(self, ids):
        """The text of ids [N], specials dropped: inverts `encode` on normalised text without unknown characters."""
        ids = np.asarray(ids, np.int64).ravel()
        ids = ids[~np.isin(ids, self.special_ids) & (ids < self._learnt)]
        if self.newline_id is None:
            return self._processor.decode(ids.tolist())
        lines = np.split(ids, np.flatnonzero(ids == self.newline_id))
        return "\n".join(self._processor.decode([i for i in line.tolist() if i != self.newline_id]) for line in lines)


def _thinned(texts):
    """Of the texts in order, all or every 2^n-th: the most that hold MAX_TRAINING_CHARACTERS or less, or one text."""
    kept, size, stride = [], 0, 1
    for index, text in enumerate(texts):
        if index % stride:
            continue
        kept.append(text)
        size += len(text)
        while size > MAX_TRAINING_CHARACTERS and len(kept) > 1:
            kept, stride = kept[::2], 2 * stride
            size = sum(map(len, kept))
    return kept
