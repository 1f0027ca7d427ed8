"""Token embeddings made elsewhere: a package's weights, a Hugging Face model's, or those of a run of this package."""

import pathlib
from typing import cast

import numpy as np

from semdlm_jax.data.hub import model_folder, package_files
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.data.tokenizers import load_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.record import read_config
from semdlm_jax.runtime.checkpoint_reader import CheckpointReader
from semdlm_jax.semantics.onnx import read_onnx
from semdlm_jax.semantics.weights import read_safetensors, read_torch

INPUT_EMBEDDING = "ema_params/embed/embedding"  # of a checkpoint's state
TABLE_NAMES = ("word_embeddings", "embed_tokens", "wte", "tok_embeddings")  # what models call their input embedding
# Of a model's repository; one in parts has an index of them.
MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "config.json",
)
QUANTIZED = ("_quantized", "_q")  # endings of a table stored as integers; its scale ends in _scale instead


def load_vectors(embeddings: str, tokenizer: Tokenizer) -> np.ndarray:
    """A vector for every id of the tokenizer.

    Args:
        embeddings: what is read.
            package:NAME: the input embedding among the weights (.onnx, .safetensors) of an installed package.
            hf:NAME: that of a model directory, or of a model in the local Hugging Face cache; nothing is downloaded.
            checkpoint:DIR: that of a run's work directory, averaged (EMA), from its latest checkpoint.
        tokenizer: of the vocabulary.

    Returns:
        [V, D] float32.

    Raises:
        UserError: not there, unreadable, or of another vocabulary.
    """
    kind, _, name = embeddings.partition(":")
    vectors = np.asarray(SOURCES[kind](name, tokenizer), np.float32)
    if not np.isfinite(vectors).all():
        raise UserError(f"{embeddings}: its embeddings hold numbers that are not finite: take other embeddings")
    return vectors


def _package(name, tokenizer):
    readers = {".onnx": read_onnx, ".safetensors": read_safetensors}
    weights = [weight for path in package_files(name, *readers)[0] for weight in readers[path.suffix](path)]
    return _input_embedding(f"package:{name}", weights, tokenizer)


def _hugging_face(name, tokenizer):
    directory = model_folder(name, *MODEL_FILES)
    _check_pieces(f"hf:{name}", directory / "vocab.txt", tokenizer)
    if paths := sorted(directory.glob("*.safetensors")):  # large models come in several
        return _input_embedding(
            f"hf:{name}", [weight for path in paths for weight in read_safetensors(path)], tokenizer
        )
    if paths := sorted(directory.glob("pytorch_model*.bin")):
        return _input_embedding(f"hf:{name}", [weight for path in paths for weight in read_torch(path)], tokenizer)
    raise UserError(f"hf:{name}: {directory} holds no .safetensors or pytorch_model.bin: download the model's weights")


def _check_pieces(source, path, tokenizer):
    """UserError when the model comes with a vocab.txt, a piece a line, and it is not the tokenizer's."""
    if path.exists() and path.read_text(encoding="utf-8").rstrip("\n").split("\n") != list(tokenizer.pieces):
        raise UserError(
            f"{source}: its vocabulary, {path}, is not the tokenizer's: prepare the data with that vocabulary"
        )


def _checkpoint(workdir, tokenizer):
    config = read_config(workdir)
    corpus, directory = config["data"]["corpus"], config["data"]["directory"]
    if corpus == "synthetic":
        raise UserError(f"checkpoint:{workdir} was trained on random tokens, which mean nothing: give another run")
    found = cast(Tokenizer, load_tokenizer(directory)).fingerprint
    if found != tokenizer.fingerprint:
        raise UserError(
            f"checkpoint:{workdir} was trained on vocabulary {found[:12]} (that of {directory}), but the tokenizer is "
            f"{tokenizer.fingerprint[:12]}: give a run of the same vocabulary"
        )
    vectors = CheckpointReader(pathlib.Path(workdir) / "checkpoints").read_array(INPUT_EMBEDDING)
    if vectors is None:
        raise UserError(f"checkpoint:{workdir} holds no checkpoint yet: train it first with python -m semdlm_jax.train")
    return vectors


# kind -> function(what follows the colon, tokenizer) -> [V, D]
SOURCES = {"package": _package, "hf": _hugging_face, "checkpoint": _checkpoint}


def _input_embedding(source, weights, tokenizer):
    """The one matrix [V, D] among the weights that embeds tokens.

    A matrix of integers is read as (values - zero point) * scale; both are a number or a number for each row, and a
    missing zero point is 0.
    """
    matrices = [weight for weight in weights if len(weight.shape) == 2]
    named = [weight for weight in matrices if any(part in weight.name for part in TABLE_NAMES)]
    named = [weight for weight in named if not weight.name.endswith(("_scale", "_zero_point"))]
    rows = tokenizer.vocab_size
    found = [weight for weight in named or matrices if weight.shape[0] == rows and weight.shape[1] > 1]
    if not found:
        told = ", ".join(f"{weight.name} {list(weight.shape)}" for weight in named[:3]) or "none is named like one"
        raise UserError(
            f"{source} has no input embedding of {rows} tokens ({told}): "
            "prepare the data with the model's own vocabulary, or take other embeddings"
        )
    if len(found) > 1:
        names = ", ".join(weight.name for weight in found[:4])
        raise UserError(f"{source} has {len(found)} matrices of {rows} rows ({names}): take a model with one embedding")
    values = found[0].values()
    if np.issubdtype(values.dtype, np.integer):
        values = _dequantized(source, found[0].name, values, {weight.name: weight for weight in weights})
    return values


def _dequantized(source, name, values, weights):
    stem = next((name.removesuffix(ending) for ending in QUANTIZED if name.endswith(ending)), name)
    if f"{stem}_scale" not in weights:
        raise UserError(f"{source}: {name} holds integers without {stem}_scale: export the model as float32")
    scale, zero = weights[f"{stem}_scale"].values(), 0
    if f"{stem}_zero_point" in weights:
        zero = weights[f"{stem}_zero_point"].values().astype(np.float32)
        zero = zero.reshape(-1, 1) if zero.size > 1 else zero.reshape(())
    scale = scale.astype(np.float32)
    return (values.astype(np.float32) - zero) * (scale.reshape(-1, 1) if scale.size > 1 else scale.reshape(()))
