"""GPT-2 in JAX: learned positions, layer norms before attention and MLP, GELU by its tanh formula, and a tied head.

Source: Radford et al. 2019, with the weights as the library transformers names them; matrices are [in, out].
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.scorers.reading import Settings, Weights, normalize, project


@dataclasses.dataclass(frozen=True)
class GPT2:
    """The sizes of a network, and its pure functions.

    Attributes:
        width: D.
        layers: of them.
        heads: H.
        hidden: width of the MLP.
        vocab_size: V.
        context: positions that it knows.
        epsilon: of the norms.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    vocab_size: int
    context: int
    epsilon: float

    PREFIX = "transformer."

    @classmethod
    def of(cls, settings: Settings) -> "GPT2":
        """UserError: a size is missing, or the network is a variant that is not read here."""
        settings.check(
            activation_function=("gelu_new", "gelu_pytorch_tanh"),
            scale_attn_weights=(True,),
            scale_attn_by_inverse_layer_idx=(False,),
            add_cross_attention=(False,),
            tie_word_embeddings=(True,),
        )
        width, heads = settings.whole("n_embd"), settings.whole("n_head")
        if width % heads:
            raise UserError(f"{settings.where}: {heads} heads do not divide a width of {width}: download it again")
        return cls(
            width,
            settings.whole("n_layer"),
            heads,
            settings.whole("n_inner", 4 * width),
            settings.whole("vocab_size"),
            settings.whole("n_positions"),
            settings.real("layer_norm_epsilon", 1e-5),
        )

    def load(self, weights: Weights) -> dict:
        """The parameters, float32. UserError: one is missing or of another shape."""
        width, hidden = self.width, self.hidden
        shapes = {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "attn.c_attn.weight": (width, 3 * width),
            "attn.c_attn.bias": (3 * width,),
            "attn.c_proj.weight": (width, width),
            "attn.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.c_fc.weight": (width, hidden),
            "mlp.c_fc.bias": (hidden,),
            "mlp.c_proj.weight": (hidden, width),
            "mlp.c_proj.bias": (width,),
        }
        return {
            "tokens": weights.take("wte.weight", self.vocab_size, width),
            "positions": weights.take("wpe.weight", self.context, width),
            "layers": {name: weights.stack(f"h.{{}}.{name}", self.layers, *shape) for name, shape in shapes.items()},
            "ln_f.weight": weights.take("ln_f.weight", width),
            "ln_f.bias": weights.take("ln_f.bias", width),
        }

    def features(self, params: dict, tokens_BxL: jax.Array) -> jax.Array:
        """[B, L, D], behind the final norm."""
        x_BxLxD = params["tokens"][tokens_BxL] + params["positions"][: tokens_BxL.shape[1]]
        x_BxLxD, _ = jax.lax.scan(lambda x, layer: (self._layer(x, layer), None), x_BxLxD, params["layers"])
        return self._norm(x_BxLxD, params, "ln_f")

    def logits(self, params: dict, features: jax.Array) -> jax.Array:
        """[..., D] to [..., V]."""
        return features @ params["tokens"].T

    def _layer(self, x_BxLxD, layer):
        qkv = project(self._norm(x_BxLxD, layer, "ln_1"), layer, "attn.c_attn")
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")
        x_BxLxD += project(y.reshape(x_BxLxD.shape), layer, "attn.c_proj")
        hidden = project(self._norm(x_BxLxD, layer, "ln_2"), layer, "mlp.c_fc")
        return x_BxLxD + project(jax.nn.gelu(hidden, approximate=True), layer, "mlp.c_proj")

    def _norm(self, x, params, name):
        return normalize(x, params, name, self.epsilon)
