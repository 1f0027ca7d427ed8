"""The tokenizers by name. To add one: extend `TokenizerSpec` and list it in TOKENIZERS, or name it in a configuration
as `module:Class` without touching this package.
"""

import abc
import contextlib
import dataclasses
import pathlib
import sys
import types
from collections.abc import Mapping

from semdlm_jax import remote
from semdlm_jax.data.corpora import VOCAB_SIZE
from semdlm_jax.data.description import MARK
from semdlm_jax.data.documents import Corpus, TrainingText
from semdlm_jax.data.hub import tokenizer_file
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.sample import draw_sample
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.tokenizer import OwnTokenizer, Tokenizer
from semdlm_jax.data.wordpiece import WordPieceTokenizer, bert_base_uncased
from semdlm_jax.errors import UserError
from semdlm_jax.options import switch
from semdlm_jax.plugins import ArgumentRegistry, WithArgument, field

NOTHING = TrainingText(Corpus((), (), ()))
TRIED = 20  # pieces that a tokenizer of a user's own must write as text before any is encoded
KINDS = (OwnTokenizer, WordPieceTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer)


@dataclasses.dataclass(frozen=True)
class TokenizerSpec(WithArgument, abc.ABC):
    """The options of a tokenizer, from which `build` makes it."""

    lowercase: bool = field(switch(True, "text is lowercased"))

    @property
    def learns(self) -> bool:
        """Whether `build` reads the training text. Where it does not, the tokenizer is made before any long work."""
        return True

    @abc.abstractmethod
    def build(self, text: TrainingText) -> Tokenizer:
        """The tokenizer: of the package's classes, which need no code of a user's own to be read again, or one that
        extends OwnTokenizer. UserError for no or a bad vocabulary."""


@dataclasses.dataclass(frozen=True)
class _Given(TokenizerSpec):
    """A vocabulary that is there already."""

    @property
    def learns(self):
        return False

    def needed(self, what: str) -> str:
        """What follows the colon. UserError where nothing does."""
        if not self.argument:
            raise UserError(f"tokenizer {self.spec.partition(':')[0]!r} needs {what}")
        return self.argument


@dataclasses.dataclass(frozen=True)
class SentencePieces(TokenizerSpec):
    """Learned, or a SentencePiece model file."""

    vocab_size: int = field(VOCAB_SIZE)
    byte_fallback: bool = field(
        switch(
            False,
            "of a vocabulary that is learned: 256 of its pieces are bytes, which spell what it lacks",
            only="data.tokenizer: sentencepiece",
        )
    )
    normalize: bool = field(
        switch(True, "text is brought into one form: NFKC, ASCII quotes and dashes, single spaces and line breaks")
    )

    @property
    def learns(self):
        return not self.argument

    def build(self, text):
        if self.argument:
            return SentencePieceTokenizer.from_file(self.argument, self.lowercase, self.normalize)
        text.tell(f"learning a vocabulary of {self.vocab_size} pieces")
        sample = draw_sample(text, self.lowercase, self.normalize)
        if not sample.whole:
            text.notes["sample"] = {"characters": sample.characters, "of": sample.of}
            text.tell(sampled(text.notes["sample"]))
        return SentencePieceTokenizer.learn(sample, self.vocab_size, self.lowercase, self.normalize, self.byte_fallback)


def sampled(sample: Mapping[str, int]) -> str:
    """What part of the text a vocabulary is learned from. sample: its characters, and those of the text it is of."""
    share = f"{sample['characters']:,} of {sample['of']:,} characters"
    return f"the vocabulary is learned from a part of the text: lines drawn at random, {share}"


@dataclasses.dataclass(frozen=True)
class WordPieces(_Given):
    """A WordPiece vocabulary that is read as BERT does."""

    def build(self, text):
        path = self.needed("its vocabulary: give wordpiece:PATH of a vocab.txt")
        return WordPieceTokenizer.from_file(path, self.lowercase)


@dataclasses.dataclass(frozen=True)
class BertBaseUncased(_Given):
    """BERT's own vocabulary."""

    def build(self, text):
        if self.argument:
            raise UserError(f"tokenizer 'bert-base-uncased' takes no path: give wordpiece:{self.argument}")
        if not self.lowercase:
            raise UserError("tokenizer 'bert-base-uncased' lowercases its text: set data.lowercase = True")
        return bert_base_uncased()


@dataclasses.dataclass(frozen=True)
class TokenizerJson(_Given):
    """A tokenizer.json of Hugging Face's `tokenizers`."""

    def build(self, text):
        return self.read(self.needed("its vocabulary: give tokenizer:PATH of a tokenizer.json"))

    def read(self, path: str | pathlib.Path) -> Tokenizer:
        if pathlib.Path(path).suffix == ".json":
            with contextlib.suppress(UserError):  # raised where it encodes otherwise than BERT does
                return WordPieceTokenizer.from_file(path, self.lowercase)
        return HuggingFaceTokenizer.from_file(path, self.lowercase)


@dataclasses.dataclass(frozen=True)
class HubModel(TokenizerJson):
    """The tokenizer.json of a model of Hugging Face's."""

    def build(self, text):
        name = self.needed("a model: give hf:NAME of a directory or of the local Hugging Face cache")
        return self.read(tokenizer_file(name))


@dataclasses.dataclass(frozen=True)
class Bytes(_Given):
    """The 256 bytes of UTF-8."""

    def build(self, text):
        _check_no_path(self)
        return HuggingFaceTokenizer.of_bytes(self.lowercase)


@dataclasses.dataclass(frozen=True)
class Characters(TokenizerSpec):
    """Every character of the training text."""

    @property
    def learns(self):
        _check_no_path(self)
        return True

    def build(self, text):
        text.tell("learning the alphabet")
        return HuggingFaceTokenizer.of_characters(text, self.lowercase)


def _check_no_path(spec):
    if spec.argument:
        name = spec.spec.partition(":")[0]
        raise UserError(f"tokenizer {name!r} takes no path: write data.tokenizer={name}")


TOKENIZERS = ArgumentRegistry(
    "tokenizer",
    TokenizerSpec,
    {
        "sentencepiece": SentencePieces,
        "wordpiece": WordPieces,
        "bert-base-uncased": BertBaseUncased,
        "tokenizer": TokenizerJson,
        "hf": HubModel,
        "characters": Characters,
        "bytes": Bytes,
    },
)


def build_tokenizer(spec: TokenizerSpec, text: TrainingText) -> Tokenizer:
    """What the spec builds. UserError: that is no tokenizer which could be saved, or what `build` says."""
    with TOKENIZERS.explaining(spec.spec):
        found = spec.build(text)
    if not isinstance(found, KINDS):
        raise UserError(
            f"tokenizer {spec.spec!r}: its build() returns {type(found).__name__}: return a tokenizer that extends "
            f"{OwnTokenizer.__module__}.{OwnTokenizer.__name__}, or one of the package's"
        )
    if isinstance(found, OwnTokenizer):
        _check_findable(spec, type(found))
        with TOKENIZERS.explaining(spec.spec):
            found.decode(range(TRIED))
    return found


def _check_findable(spec, kind):
    """UserError unless whoever imports the module of the spec finds the tokenizer's class again."""
    module, home = sys.modules[type(spec).__module__], sys.modules[kind.__module__]
    imported = [value for value in vars(module).values() if isinstance(value, type | types.ModuleType)]
    if getattr(home, kind.__name__, None) is not kind or not (home is module or kind in imported or home in imported):
        raise UserError(
            f"tokenizer {spec.spec!r}: its build() returns a {kind.__qualname__} of module {kind.__module__}, which "
            f"could not be found again: define or import that class at the top of {module.__name__}"
        )


def given_tokenizer(spec: str, lowercase: bool) -> Tokenizer | None:
    """The tokenizer that a `data.tokenizer` names, e.g. 'tokenizer:PATH'; None for one that is learned from the
    training text, as 'sentencepiece' and 'characters' are. UserError: unknown name, no or a bad vocabulary."""
    chosen = TOKENIZERS.pick(spec, {"lowercase": lowercase})
    return None if chosen.learns else build_tokenizer(chosen, NOTHING)


def load_tokenizer(directory: str | pathlib.Path) -> Tokenizer:
    """The tokenizer in a prepared directory. UserError: none, or damaged."""
    directory = remote.local(directory)
    kind = next((kind for kind in KINDS if (directory / kind.FILE).exists()), SentencePieceTokenizer)
    return kind.load(directory / kind.FILE)


def marks_words(tokenizer: Tokenizer) -> bool:
    """Whether pieces hold the space before a word, marked '▁', and not in a piece of its own alone."""
    return any(piece[:1] == MARK and text for piece, text in zip(tokenizer.pieces, tokenizer.texts, strict=True))
