"""A scorer from a model directory as Hugging Face's libraries write it: config.json, .safetensors, tokenizer.json."""

import dataclasses
import json
import pathlib

import tokenizers

from semdlm_jax.data.files import read_contents
from semdlm_jax.data.hub import model_folder
from semdlm_jax.errors import UserError
from semdlm_jax.options import switch
from semdlm_jax.plugins import field
from semdlm_jax.scorers.language_model import LanguageModel, ModelScorer
from semdlm_jax.scorers.networks import build_model
from semdlm_jax.scorers.reading import Settings, Weights
from semdlm_jax.semantics.weights import read_safetensors

BOS = switch(True, "the token that begins a text stands before each window; else its first token is not scored")


@dataclasses.dataclass(frozen=True)
class HubModel(ModelScorer):
    """GPT-2 or Llama by its name in the local Hugging Face cache, or by its directory; nothing is downloaded."""

    bos: bool = field(BOS)

    def read(self) -> LanguageModel:
        if not self.argument:
            raise UserError("scorer 'hf' needs a model: give hf:gpt2-large, or hf:DIRECTORY of one")
        folder = model_folder(self.argument, "config.json")
        commit = f"commit {folder.name[:12]}" if folder.parent.name == "snapshots" else ""
        return build_model(
            self.spec,
            Settings(str(folder / "config.json"), _read_json(folder / "config.json")),
            lambda prefix: Weights(self.spec, _weights(self.spec, folder), prefix),
            _read_tokenizer(self.spec, folder / "tokenizer.json"),
            bos=self.bos,
            about=commit,
        )


def _read_json(path):
    try:
        found = json.loads(read_contents(path))
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}): download it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: no configuration of a model: download it again")
    return found


def _weights(spec, folder: pathlib.Path):
    paths = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UserError(f"{spec}: {folder} holds no .safetensors: download the model's weights in that form")
    return [weight for path in paths for weight in read_safetensors(path)]


def _read_tokenizer(spec, path):
    if not path.is_file():
        raise UserError(f"{spec}: {path.parent} holds no tokenizer.json: download that of the model, or save it there")
    try:
        return tokenizers.Tokenizer.from_str(read_contents(path))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: tokenizers cannot read it ({reason}): download it again") from None
