"""What every tokenizer offers, and the base of one with code of a user's own."""

import abc
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from semdlm_jax.data.description import ROLES
from semdlm_jax.errors import CodeNotLoadedError, UserError
from semdlm_jax.plugins import Plugin, Registry, is_imported

SPECIALS = tuple(names[0] for names in ROLES)  # padding, unknown, begin, end and mask
SHOWN = 40  # characters of a text in a message


def derived() -> Any:
    """A dataclass field that is made of the others, in __post_init__."""
    return dataclasses.field(init=False, repr=False, compare=False)


class Tokenizer(abc.ABC):
    """A vocabulary of V pieces; the same text has the same ids in training, in a prompt and in scoring.

    Attributes:
      pieces: V strings, as the vocabulary marks them.
      texts: V strings, what each reads, without the marks '▁' and '##'; '' for specials.
      starts_word: [V] bool, begins a word; False for continuations, specials and a mark alone.
      special_ids: ids that no text contains (but unk_id): padding, unknown, begin, end, mask, and unused ones.
      newline_id: the piece of a line break, None where line breaks are not kept or not one piece.
      keeps_space: whether white space at the ends of a text is encoded like any other; else `encode` drops it.
      lowercase: whether text is lowercased first.
      fingerprint: sha256 in hexadecimal of pieces and normalization.
      FILE: the name of its file in a prepared directory.
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
    lowercase: bool
    fingerprint: str
    FILE: ClassVar[str]

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> np.ndarray:
        """Ids [N] int32 of a text, normalized first; no specials but unk_id."""
        return self.encode_batch([text])[0]

    @abc.abstractmethod
    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode` of each text."""

    @abc.abstractmethod
    def encode_after(self, text: str) -> np.ndarray:
        """Ids [N] int32 of text that stands behind other text: where it begins with white space it begins a new word,
        else it goes on with the last one."""

    @abc.abstractmethod
    def decode(self, ids: Any) -> str:
        """The text of ids [N], specials dropped."""

    @abc.abstractmethod
    def save(self, path: pathlib.Path) -> None:
        """Writes the vocabulary to `path`, and its settings beside it."""

    @classmethod
    @abc.abstractmethod
    def load(cls, path: pathlib.Path) -> "Tokenizer":
        """Reads what `save` wrote. UserError: a file is missing or damaged."""


def unreadable(path: pathlib.Path, cause: object) -> UserError:
    """For a saved tokenizer that cannot be read because of `cause`."""
    return UserError(f"{path}: cannot read the tokenizer ({cause}): prepare the data again")


@dataclasses.dataclass(frozen=True)
class OwnTokenizer(Plugin, Tokenizer):
    """A tokenizer with code of a user's own: a frozen dataclass that extends this one, with `ids_of` and `text_of`.

    Its fields are what is saved, under the name of its class: text, numbers, booleans, and tuples of them, each with a
    default. Whoever opens data or a model with it needs its module.

    Attributes:
      vocabulary: the pieces of text, id by id, each once. The five special pieces follow them.
      lowercase: whether text is lowercased before `ids_of` reads it.
    """

    RETURNS = {"text_of": lambda found, ids: "" if isinstance(found, str) else f"{found!r:.{SHOWN}}: return a str"}
    vocabulary: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    lowercase: bool = True

    FILE = "tokenizer.own"

    def __post_init__(self):
        super().__post_init__()
        name = type(self).__name__
        if not (isinstance(self.vocabulary, tuple) and all(isinstance(p, str) and p for p in self.vocabulary)):
            raise UserError(f"{name}: its vocabulary is no tuple of texts that are not empty: give one")
        if not self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            state = "holds a piece twice" if self.vocabulary else "is empty"
            raise UserError(f"{name}: its vocabulary {state}: give every piece once")
        for place, role in enumerate(("pad_id", "unk_id", "bos_id", "eos_id", "mask_id"), len(self.vocabulary)):
            object.__setattr__(self, role, place)

    @abc.abstractmethod
    def ids_of(self, text: str) -> Sequence[int]:
        """Ids of a text: places of pieces in the vocabulary, and self.unk_id for what it lacks."""

    @abc.abstractmethod
    def text_of(self, ids: list[int]) -> str:
        """The text of ids, among which is no special."""

    @property
    def pieces(self) -> tuple[str, ...]:
        return (*self.vocabulary, *SPECIALS)

    @property
    def special_ids(self) -> tuple[int, ...]:
        return tuple(range(len(self.vocabulary), len(self.pieces)))

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """What each piece reads; to be overridden where pieces bear marks."""
        return (*self.vocabulary, *[""] * len(SPECIALS))

    @functools.cached_property
    def starts_word(self) -> np.ndarray:
        """[V] bool: every piece with a letter or sign may begin a word; to be overridden where some cannot."""
        return np.array([bool(text.strip()) for text in self.texts])

    @functools.cached_property
    def newline_id(self) -> int | None:
        ids = self.encode("\n").tolist()
        return ids[0] if len(ids) == 1 and ids[0] != self.unk_id and self.decode(ids) == "\n" else None

    @functools.cached_property
    def keeps_space(self) -> bool:
        return len(self.encode(" \n ")) > 0

    @functools.cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([CLASSES.name_of(self), self._fields()]).encode()).hexdigest()

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        return [self._encode(text.lower() if self.lowercase else text) for text in texts]

    def encode_after(self, text: str) -> np.ndarray:
        """`encode`; to be overridden where a text that goes on with a word has other ids."""
        return self.encode(text)

    def _encode(self, text):
        found = np.asarray(self.ids_of(text))
        whole = found.ndim == 1 and (found.dtype.kind in "iu" or not found.size)
        if not whole or ((found < 0) | (found >= len(self.vocabulary)) & (found != self.unk_id)).any():
            raise UserError(
                f"{type(self).__name__}: ids_of gives {str(found)[:SHOWN]} for {text[:SHOWN]!r}: give whole numbers "
                f"from 0 to {len(self.vocabulary) - 1}, and self.unk_id for what the vocabulary lacks"
            )
        return found.astype(np.int32)

    def decode(self, ids: Any) -> str:
        ids = np.asarray(ids, np.int64).ravel()
        return self.text_of(ids[ids < len(self.vocabulary)].tolist())

    def save(self, path: pathlib.Path) -> None:
        saved = {"class": CLASSES.name_of(self), "fields": self._fields()}
        path.write_text(json.dumps(saved), encoding="utf-8")

    @classmethod
    def load(cls, path: pathlib.Path) -> "OwnTokenizer":
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            name = saved["class"]
            fields: dict[str, Any] = {key: _frozen(value) for key, value in saved["fields"].items()}
            imported = is_imported(name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise unreadable(path, error) from None
        if not imported:
            raise CodeNotLoadedError(
                f"{path}: the tokenizer is code of whoever prepared the text, {name}: name it in data.tokenizer, or "
                "import its module first, or give --trust_code (in Python trust_code=True) where there is one"
            )
        try:
            found = CLASSES.find(name)
        except UserError as error:
            raise CodeNotLoadedError(f"{path}: {error}") from None
        try:
            return found(**fields)
        except TypeError as error:
            raise unreadable(path, error) from None

    def _fields(self):
        """{field: value}. UserError for a value that would not be the same once it is read again."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        for name, value in values.items():
            try:
                same = _frozen(json.loads(json.dumps(value))) == value
            except (TypeError, ValueError):
                same = False
            if not same:
                raise UserError(
                    f"{type(self).__name__}: its field {name!r} cannot be saved: give text, a number, a boolean or a "
                    "tuple of them"
                )
        return values


CLASSES = Registry("tokenizer class", OwnTokenizer, {})  # found by module:Class alone


def _frozen(value):
    """A value of JSON with tuples for its lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
