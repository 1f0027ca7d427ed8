"""Reading a model's files: weights by their names, the numbers of a configuration, and the tokenizer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from jax.sharding import NamedSharding, PartitionSpec

from semdlm_jax.errors import UserError
from semdlm_jax.options import shown
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.semantics.weights import Weight

END_OF_TEXT = "<|endoftext|>"  # what stood between the documents that GPT-2, SmolLM2 and others were trained on

# Endings of what files hold besides: masks, wavelengths, and a head that is the table of tokens.
NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq", "lm_head.weight")


class Weights:
    """The weights of one model, by name.

    Args:
        where: they are, for messages.
        weights: of all its files.
        prefix: that some files put before a name, and others do not.
    """

    def __init__(self, where: str, weights: Iterable[Weight], prefix: str = ""):
        self._where, self._unread = where, set()
        self._weights = {weight.name.removeprefix(prefix): weight for weight in weights}
        self._unread.update(self._weights)

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The weight of a name as float32. UserError: it is missing, or of another shape."""
        if name not in self._weights:
            raise UserError(f"{self._where}: the weight {name!r} is missing: download the whole model again")
        weight = self._weights[name]
        self._unread.discard(name)
        if tuple(weight.shape) != shape:
            raise UserError(
                f"{self._where}: the weight {name!r} is {list(weight.shape)}, but {list(shape)} in its configuration: "
                "download configuration and weights of one model"
            )
        return np.asarray(weight.values(), np.float32)

    def stack(self, template: str, layers: int, *shape: int) -> np.ndarray:
        """[layers, *shape]: the weight of each layer, whose number stands for {} in the name."""
        stacked = np.empty((layers, *shape), np.float32)
        for layer in range(layers):
            stacked[layer] = self.take(template.format(layer), *shape)
        return stacked

    def check_read(self) -> None:
        """UserError for a weight that was not taken, so that the network is another than what was built."""
        if left := sorted(name for name in self._unread if not name.endswith(NO_WEIGHTS)):
            raise UserError(
                f"{self._where}: the weight {left[0]!r} is of a network that is not read here: take another model"
            )


class Settings:
    """The values of a model's configuration.

    Args:
        where: it is, for messages.
        values: {key: value}.
    """

    def __init__(self, where: str, values: Mapping[str, Any]):
        self.where, self._values = where, values

    def section(self, key: str) -> "Settings":
        """The Settings under a key, empty ones where there are none. UserError: no settings stand there."""
        found = self._values.get(key)
        if not isinstance(found, dict | None):
            raise UserError(f"{self.where}: {key} is {shown(found)}, which is no section: download it again")
        return Settings(f"{self.where}, {key}", found or {})

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def whole(self, key: str, default: int | None = None) -> int:
        """A count. UserError: it is missing, or no whole number above 0."""
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.where}: {key} is {shown(value)}, no whole number above 0: download it again")
        return value

    def real(self, key: str, default: float) -> float:
        """A number above 0. UserError: it is none."""
        value = self._values.get(key, default)
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise UserError(f"{self.where}: {key} is {shown(value)}, no number above 0: download it again")
        return float(value)

    def check(self, **read: Sequence) -> None:
        """UserError unless each key has one of the values that are read here, or is missing."""
        for key, values in read.items():
            value = self._values.get(key, values[0])
            if value not in values:
                raise UserError(
                    f"{self.where}: {key} = {shown(value)}, and only {' or '.join(map(repr, values))} is read here: "
                    "take another model"
                )


def make_encode(where: str, tokenizer: tokenizers.Tokenizer, vocab_size: int) -> Callable:
    """texts -> ids of each, without what the tokenizer would put around a text.

    UserError: its vocabulary is larger than the model's.
    """
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocab_size:
        raise UserError(
            f"{where}: the tokenizer has ids up to {largest}, but the model's table has {vocab_size} rows: take "
            "tokenizer and weights of one model"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts):
        return [np.array(one.ids, np.int32) for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return encode


def begin_and_end(tokenizer: tokenizers.Tokenizer, begin: Any, end: Any) -> tuple[int | None, int | None]:
    """The ids that stand before and behind a document: <|endoftext|> where the vocabulary has it, for models that were
    made to chat name others, else those that the configuration names; None where it names none."""
    if (between := tokenizer.token_to_id(END_OF_TEXT)) is not None:
        return between, between
    return _named(tokenizer, begin), _named(tokenizer, end)


def _named(tokenizer, found):
    """The first of the ids that a configuration gives, None where the vocabulary has no such id."""
    first = found[0] if isinstance(found, list) and found else found
    return first if isinstance(first, int) and tokenizer.id_to_token(first) else None


def begin_prefix(where: str, tokenizer: tokenizers.Tokenizer, begin: int | None) -> tuple[tuple[int, ...], str]:
    """(the begin token alone, its name). UserError: the model has none."""
    if begin is None:
        raise UserError(f"{where} names no token that begins a text: give bos=False to score from the second token on")
    return (begin,), str(tokenizer.id_to_token(begin))


def on_devices(params: Any) -> Any:
    """A tree of arrays, whole on every device."""
    return jax.device_put(params, NamedSharding(make_mesh(-1, 1, 1), PartitionSpec()))


def normalize(x: jax.Array, params: Mapping[str, jax.Array], name: str, epsilon: float) -> jax.Array:
    """Layer normalization of x [..., D] with the weight and the bias of a name."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
    return x * params[f"{name}.weight"] + params[f"{name}.bias"]


def project(x: jax.Array, params: Mapping[str, jax.Array], name: str) -> jax.Array:
    """x [..., D] times the matrix [D, E] of a name, and its bias."""
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log softmax(logits) [..., V] at the targets [...]."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen
