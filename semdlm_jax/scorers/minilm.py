"""BERT's encoder in JAX, of the sizes of paraphrase-MiniLM-L3-v2, with the weights of that model's .onnx file.

Source: Devlin et al. 2018; Reimers & Gurevych 2019. Matrices are [in, out].
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from semdlm_jax.scorers.reading import Weights, normalize, project
from semdlm_jax.semantics.weights import Weight

WIDTH, LAYERS, HEADS, HIDDEN, PIECES = 384, 3, 12, 1536, 30522
EPSILON = 1e-12  # of the norms
WINDOW = 128  # tokens of a window, begin and end included: as the model was trained
STEM = "model.0.auto_model."
NAMED = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
NAMED += ("intermediate.dense", "output.dense")  # the matrices of a layer, in the order of the file, which names none


def load(where: str, weights: Sequence[Weight]) -> dict:
    """The parameters; matrices are [in, out]. UserError: one is missing or of another shape."""
    matrices = [weight for weight in weights if weight.name.startswith("onnx::MatMul_")]
    names = [f"{STEM}encoder.layer.{layer}.{name}.weight" for layer in range(LAYERS) for name in NAMED]
    named = [weight._replace(name=name) for name, weight in zip(names, matrices)]
    found = Weights(where, [*weights, *named], STEM)
    shapes = {f"{name}.weight": (WIDTH, WIDTH) for name in NAMED} | {f"{name}.bias": (WIDTH,) for name in NAMED}
    shapes |= {"intermediate.dense.weight": (WIDTH, HIDDEN), "intermediate.dense.bias": (HIDDEN,)}
    shapes |= {"output.dense.weight": (HIDDEN, WIDTH)}
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    shapes |= {f"{name}.{part}": (WIDTH,) for name in norms for part in ("weight", "bias")}
    first = "embeddings.LayerNorm"
    types = found.take("embeddings.token_type_embeddings.weight", 2, WIDTH)
    return {
        "tokens": found.take("embeddings.word_embeddings.weight", PIECES, WIDTH),
        "positions": found.take("embeddings.position_embeddings.weight", 512, WIDTH) + types[0],
        "layers": {name: found.stack(f"encoder.layer.{{}}.{name}", LAYERS, *shape) for name, shape in shapes.items()},
        **{f"{first}.{part}": found.take(f"{first}.{part}", WIDTH) for part in ("weight", "bias")},
    }


def sum_features(params: dict, rows: Mapping[str, jax.Array]) -> tuple[jax.Array]:
    """([B, D],): the sum of the last hidden states over the tokens of each row."""
    read_BxL = rows["read"]
    lengths_B = jnp.maximum(jnp.sum(read_BxL, axis=1), 1)
    x_BxLxD = params["tokens"][rows["tokens"]] + params["positions"][: read_BxL.shape[1]]
    x_BxLxD = normalize(x_BxLxD, params, "embeddings.LayerNorm", EPSILON)
    x_BxLxD, _ = jax.lax.scan(lambda x, layer: (_layer(x, layer, lengths_B), None), x_BxLxD, params["layers"])
    return (jnp.einsum("bld,bl->bd", x_BxLxD, read_BxL.astype(x_BxLxD.dtype)),)


def _layer(x_BxLxD, layer, lengths_B):
    *qkv, out, up, down = NAMED
    parts = (project(x_BxLxD, layer, name).reshape(*x_BxLxD.shape[:2], HEADS, -1) for name in qkv)
    y = jax.nn.dot_product_attention(*parts, key_value_seq_lengths=lengths_B, implementation="xla")
    x_BxLxD = normalize(
        x_BxLxD + project(y.reshape(x_BxLxD.shape), layer, out), layer, "attention.output.LayerNorm", EPSILON
    )
    hidden = jax.nn.gelu(project(x_BxLxD, layer, up), approximate=False)
    return normalize(x_BxLxD + project(hidden, layer, down), layer, "output.LayerNorm", EPSILON)
