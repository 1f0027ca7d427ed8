"""The networks that are read here, by the architecture that a model's files name."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tokenizers

from semdlm_jax.errors import choose
from semdlm_jax.scorers.gpt2 import GPT2
from semdlm_jax.scorers.language_model import LanguageModel
from semdlm_jax.scorers.llama import Llama
from semdlm_jax.scorers.reading import (
    Settings,
    Weights,
    begin_and_end,
    begin_prefix,
    cross_entropy,
    make_encode,
    on_devices,
)

NETWORKS = {"gpt2": GPT2, "llama": Llama}
CONTEXT = 1024  # tokens of a window where no other number is asked for: that of GPT-2


def build_model(
    where: str,
    settings: Settings,
    weights: Callable[[str], Weights],
    tokenizer: tokenizers.Tokenizer,
    *,
    bos: bool,
    about: str = "",
) -> LanguageModel:
    """The LanguageModel of a model's files.

    Args:
        where: they are, as the user gave it.
        settings: of its configuration, with its architecture as `model_type`.
        weights: a function from the prefix that may stand before the names of weights to these.
        tokenizer: of the model.
        bos: whether its begin token stands before each window.
        about: more on what the files hold.

    Raises:
        UserError: the architecture is not read here, or files are missing or do not belong together.
    """
    kind = choose(f"{settings.where}: model_type", settings.get("model_type"), NETWORKS)
    network = kind.of(settings)
    encode = make_encode(where, tokenizer, network.vocab_size)
    begin, end = begin_and_end(tokenizer, settings.get("bos_token_id"), settings.get("eos_token_id"))
    prefix, shown_prefix = begin_prefix(where, tokenizer, begin) if bos else ((), "")
    found = weights(kind.PREFIX)
    params = network.load(found)
    found.check_read()
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    sizes = f"{kind.__name__}, {network.layers} layers of width {network.width}, {count:,} parameters"

    def losses(params: Any, features: jax.Array, following: jax.Array) -> jax.Array:
        return cross_entropy(network.logits(params, features), following)

    return LanguageModel(
        f"{where} ({', '.join(filter(None, (about, sizes)))})",
        encode,
        on_devices(params),
        network.features,
        losses,
        prefix,
        network.context,
        min(network.context, CONTEXT),
        network.width,
        end,
        shown_prefix,
    )
