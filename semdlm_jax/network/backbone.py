"""The backbone: a rotary, time-conditioned Transformer over noisy tokens, as in DiT (adaLN-Zero) and MDLM.

Only the files of this folder use Flax. Other code sees `Denoiser`: pure functions of a parameter tree. Shape suffixes:
B batch, L positions, D width, C condition width, H heads, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from semdlm_jax.errors import UserError
from semdlm_jax.network.attention import Cache, choose_attention, tokenwise
from semdlm_jax.network.layers import Block, TimeEmbedding, dense, modulate
from semdlm_jax.network.sharding import by_rows


class Backbone(nn.Module):
    """Tokens and times to features [B, L, D]; `output_table` maps features to logits."""

    vocab_size: int
    symbols: int
    width: int
    layers: int
    heads: int
    expansion: int
    condition_width: int
    time_conditioning: bool
    causal: bool
    tied_output: bool
    clean_mark: bool
    dropout: float
    remat: bool
    unroll: int
    attention: str
    dtype: jnp.dtype

    def setup(self):
        block = nn.remat(Block, prevent_cse=False, static_argnums=(4,)) if self.remat else Block
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast, 0, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=self.layers,
            unroll=self.unroll,
        )
        # Looked up in float32 for every compute dtype: the gradient of the table adds the positions of a token one by
        # one, and in bfloat16 a sum stops growing once it is 256 times its terms.
        states = self.vocab_size + self.symbols
        self.embed = nn.Embed(states, self.width, embedding_init=nn.initializers.normal(0.02), name="embed")
        if self.clean_mark:
            self.mark = self.param("clean_mark", nn.initializers.zeros, (self.width,))
        self.time_embedding = TimeEmbedding(self.condition_width)
        self.blocks = stack(self.heads, self.expansion, self.causal, self.dropout, self.attention, self.dtype)
        self.final_modulation = dense(2 * self.width, jnp.float32, None, zero=True, bias=True)
        if not self.tied_output:
            self.output = nn.Embed(self.vocab_size, self.width, embedding_init=nn.initializers.zeros)
        self.output_bias = self.param("output_bias", nn.initializers.zeros, (self.vocab_size,))

    def features(self, tokens_BxL, t_B, lengths_B=None, clean_BxL=None, deterministic=True):
        return self._run(tokens_BxL, t_B, lengths_B, clean_BxL, deterministic)[0]

    def step(self, token_B, position, cache):
        # One time serves the whole batch.
        features_Bx1xD, new = self._run(token_B[:, None], jnp.zeros(1), None, None, True, cache, position)
        return features_Bx1xD[:, 0], cache.write(new, position)

    def _run(self, tokens_BxL, t_B, lengths_B, clean_BxL, deterministic, cache=None, position=None):
        if not self.time_conditioning:
            t_B = jnp.zeros_like(t_B)
        condition_BxC = by_rows(self.time_embedding(t_B))
        # Unit variance into the residual stream; the table itself stays small for a tied output. The stream is of the
        # compute dtype: with bfloat16, one in float32 would take twice the memory, and 12 layers' gradients would be
        # 0.36 instead of 0.41 % off (features: 0.3 instead of 0.9 %).
        x_BxLxD = self.embed(tokens_BxL)
        if self.clean_mark and clean_BxL is not None:
            # On the table's scale, so that it learns as fast: added behind the factor it would stay too faint to see.
            x_BxLxD = x_BxLxD + jnp.where(clean_BxL[..., None], self.mark, 0)
        x_BxLxD = by_rows((x_BxLxD * 50.0).astype(self.dtype))
        x_BxLxD, new = self.blocks(x_BxLxD, condition_BxC, lengths_B, deterministic, cache, position)
        shift, scale = jnp.split(self.final_modulation(condition_BxC), 2, axis=-1)
        return by_rows(modulate(x_BxLxD, shift, scale, self.dtype)), new

    def logits(self, features):
        table = (self.embed if self.tied_output else self.output).embedding[: self.vocab_size]

        def project(x_NxD):
            return jnp.einsum("nd,vd->nv", x_NxD, table.astype(self.dtype), preferred_element_type=jnp.float32)

        return tokenwise(project, features) + self.output_bias

    def __call__(self, tokens_BxL, t_B):
        return self.logits(self.features(tokens_BxL, t_B))


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """The network as pure functions.

    Attributes:
        vocab_size: V.
        symbols: states of noisy tokens besides these, with ids from V on: symbols of blocks.
        width: D.
        layers: number of layers.
        heads: H.
        expansion: width of the MLP divided by D.
        condition_width: C.
        time_conditioning: whether the network sees t.
        causal: attend only to preceding tokens.
        tied_output: the output table is the input embedding.
        clean_mark: positions that are known to be clean are marked by a vector that is added to their tokens.
        dropout: share of a layer's output left out.
        remat: recompute each layer in the backward pass.
        unroll: layers compiled in one iteration of the scan over layers; more of them run faster (1.3 times on a CPU,
            and on one H200) and compile longer.
        attention: a name of attention.ATTENTION.
        dtype: 'float32' or 'bfloat16', of matrix products and of the values between layers. Parameters, norms, softmax,
            logits and the sums of gradients over positions stay float32.
    """

    vocab_size: int
    symbols: int = 0
    width: int = 768
    layers: int = 12
    heads: int = 12
    expansion: int = 4
    condition_width: int = 128
    time_conditioning: bool = True
    causal: bool = False
    tied_output: bool = False
    clean_mark: bool = False
    dropout: float = 0.0
    remat: bool = False
    unroll: int = 1
    attention: str = "auto"
    dtype: str = "float32"

    def __post_init__(self):
        if self.width % (2 * self.heads):
            raise UserError(f"width {self.width} must be a multiple of 2 × {self.heads} heads: rotary turns pairs")
        if self.dtype not in ("float32", "bfloat16"):
            raise UserError(f"network dtype must be float32 or bfloat16, not {self.dtype!r}")
        choose_attention(self.attention, self.dtype, self.width // self.heads)

    @property
    def _module(self) -> Any:  # flax's own types say that any `apply` may give a pair
        attention = choose_attention(self.attention, self.dtype, self.width // self.heads)
        return Backbone(**{**dataclasses.asdict(self), "attention": attention, "dtype": jnp.dtype(self.dtype)})

    def init(self, key: jax.Array, output_bias: Any = None) -> dict:
        """The parameter tree, float32. output_bias: [V] initial logits for every input; zero if None."""
        params = self._module.init(key, jnp.zeros((1, 8), jnp.int32), jnp.zeros((1,)))["params"]
        if output_bias is not None:
            params = {**params, "output_bias": jnp.asarray(output_bias, jnp.float32)}
        return params

    def features(
        self,
        params: Any,
        tokens_BxL: jax.Array,
        t_B: jax.Array,
        *,
        lengths_B: jax.Array | None = None,
        clean_BxL: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Features of noisy tokens.

        Args:
            params: the parameter tree.
            tokens_BxL: noisy tokens.
            t_B: their times.
            lengths_B: attention ignores positions from these on; None for none.
            clean_BxL: bool, the positions that are known to be clean, as given ones are. A network without `clean_mark`
                reads them as any other; None for none.
            dropout_key: None for no dropout.

        Returns:
            [B, L, D] in the compute dtype.
        """
        return self._module.apply(
            {"params": params},
            tokens_BxL,
            t_B,
            lengths_B,
            clean_BxL,
            dropout_key is None,
            method="features",
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty Cache for `step`: zeros [layers, B, L, H, d] in the compute dtype. UserError unless causal."""
        self._check_causal()
        zeros = jnp.zeros((self.layers, batch, length, self.heads, self.width // self.heads), self.dtype)
        return Cache(zeros, zeros)

    def step(self, params: Any, token_B: jax.Array, position: int | jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Cached decoding of one token, at t = 0.

        Args:
            params: the parameter tree.
            token_B: one token of each row.
            position: of these tokens, below the length of the cache; may be traced. A larger one overwrites the last.
            cache: with all tokens before `position`.

        Returns:
            (features [B, D], the cache with the token). The features equal those of the whole sequence up to rounding.

        Raises:
            UserError: the network is not causal; every new token would then change the features before it.
        """
        self._check_causal()
        return self._module.apply({"params": params}, token_B, position, cache, method="step")

    def _check_causal(self):
        if not self.causal:
            raise UserError("cached decoding needs network.causal = True: else every new token changes those before it")

    def logits(self, params: Any, features: jax.Array) -> jax.Array:
        """[..., D] features to [..., V] float32 logits."""
        return self._module.apply({"params": params}, features, method="logits")

    def apply(
        self, params: Any, tokens_BxL: jax.Array, t_B: jax.Array, *, lengths_B: jax.Array | None = None
    ) -> jax.Array:
        """[B, L, V] float32 logits."""
        return self.logits(params, self.features(params, tokens_BxL, t_B, lengths_B=lengths_B))
