"""Llama in JAX: rotary positions, RMS norms before attention and MLP, grouped queries, SwiGLU, and a head that is tied
or its own.

Source: Touvron et al. 2023, with the weights as the library transformers names them; matrices are [out, in].
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.network.attention import rotate
from semdlm_jax.scorers.reading import Settings, Weights


@dataclasses.dataclass(frozen=True)
class Llama:
    """The sizes of a network, and its pure functions.

    Attributes:
        width: D.
        layers: of them.
        heads: of queries.
        kv_heads: of keys and values; each serves heads / kv_heads neighboring heads of queries.
        head_width: of each.
        hidden: width of the MLP.
        vocab_size: V.
        context: positions that it was trained on.
        base: of the rotary wavelengths.
        epsilon: of the norms.
        tied: whether the head is the table of tokens.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    vocab_size: int
    context: int
    base: float
    epsilon: float
    tied: bool

    PREFIX = "model."

    @classmethod
    def of(cls, settings: Settings) -> "Llama":
        """UserError: a size is missing, or the network is a variant that is not read here."""
        settings.check(
            hidden_act=("silu",),
            attention_bias=(False,),
            mlp_bias=(False,),
            rope_scaling=(None,),
            quantization_config=(None,),
            tie_word_embeddings=(False, True),
        )
        width, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
        rope = settings.section("rope_parameters")
        rope.check(rope_type=("default",))
        base = rope.real("rope_theta", settings.real("rope_theta", 10000.0))
        found = cls(
            width,
            settings.whole("num_hidden_layers"),
            heads,
            settings.whole("num_key_value_heads", heads),
            settings.whole("head_dim", max(1, width // heads)),
            settings.whole("intermediate_size"),
            settings.whole("vocab_size"),
            settings.whole("max_position_embeddings"),
            base,
            settings.real("rms_norm_eps", 1e-6),
            settings.get("tie_word_embeddings", False),
        )
        if found.heads % found.kv_heads or found.head_width % 2:
            raise UserError(
                f"{settings.where}: {found.heads} heads of width {found.head_width} over {found.kv_heads} of keys are "
                "no Llama: download it again"
            )
        return found

    def load(self, weights: Weights) -> dict:
        """The parameters, float32. UserError: one is missing or of another shape."""
        width, hidden = self.width, self.hidden
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        shapes = {
            "input_layernorm": (width,),
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (hidden, width),
            "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden),
        }
        params = {
            "tokens": weights.take("embed_tokens.weight", self.vocab_size, width),
            "layers": {
                name: weights.stack(f"layers.{{}}.{name}.weight", self.layers, *shape) for name, shape in shapes.items()
            },
            "norm": weights.take("norm.weight", width),
        }
        if not self.tied:
            params["head"] = weights.take("lm_head.weight", self.vocab_size, width)
        return params

    def features(self, params: dict, tokens_BxL: jax.Array) -> jax.Array:
        """[B, L, D], behind the final norm."""
        x_BxLxD = params["tokens"][tokens_BxL]
        x_BxLxD, _ = jax.lax.scan(lambda x, layer: (self._layer(x, layer), None), x_BxLxD, params["layers"])
        return self._norm(x_BxLxD, params["norm"])

    def logits(self, params: dict, features: jax.Array) -> jax.Array:
        """[..., D] to [..., V]."""
        return features @ params["tokens" if self.tied else "head"].T

    def _layer(self, x_BxLxD, layer):
        y = self._norm(x_BxLxD, layer["input_layernorm"])
        q, k, v = (self._heads(y @ layer[f"self_attn.{name}_proj"].T) for name in "qkv")
        q, k = rotate(q, self.base), rotate(k, self.base)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")
        x_BxLxD += y.reshape(*y.shape[:2], -1) @ layer["self_attn.o_proj"].T
        y = self._norm(x_BxLxD, layer["post_attention_layernorm"])
        hidden = jax.nn.silu(y @ layer["mlp.gate_proj"].T) * (y @ layer["mlp.up_proj"].T)
        return x_BxLxD + hidden @ layer["mlp.down_proj"].T

    def _heads(self, x_BxLxN):
        return x_BxLxN.reshape(*x_BxLxN.shape[:2], -1, self.head_width)

    def _norm(self, x, weight):
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon) * weight
