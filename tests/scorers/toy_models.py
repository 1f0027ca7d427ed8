"""Tiny random models as Hugging Face's libraries and llama.cpp write them, and what they give, by loops in float64."""

import json
import math

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers, processors

END = "<|endoftext|>"
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the")]
PIECES = [END, *LETTERS, *("".join(pair) for pair in MERGES)]
V, D, LAYERS, HEADS, CONTEXT = len(PIECES), 32, 2, 4, 32
KV_HEADS, HIDDEN, BASE, EPSILON = 2, 64, 5000.0, 1e-4
CONFIGS = {
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": D,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": CONTEXT,
        "vocab_size": V,
        "layer_norm_epsilon": EPSILON,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "llama": {
        "model_type": "llama",
        "hidden_size": D,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": CONTEXT,
        "vocab_size": V,
        "rms_norm_eps": EPSILON,
        "rope_theta": BASE,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}


def weights(kind, seed=0):
    """{name: float32 array} of a random model whose logits differ by a few nats."""
    rng = np.random.default_rng(seed)

    def draw(*shape, scale=0.3):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def norm():
        return (1 + 0.2 * rng.standard_normal(D)).astype(np.float32)

    keys = D // HEADS * KV_HEADS
    if kind == "llama":
        found = {"model.embed_tokens.weight": draw(V, D), "model.norm.weight": norm(), "lm_head.weight": draw(V, D)}
        for layer in range(LAYERS):
            shapes = {"q": (D, D), "k": (keys, D), "v": (keys, D), "o": (D, D)}
            found |= {f"model.layers.{layer}.self_attn.{n}_proj.weight": draw(*s) for n, s in shapes.items()}
            shapes = {"gate": (HIDDEN, D), "up": (HIDDEN, D), "down": (D, HIDDEN)}
            found |= {f"model.layers.{layer}.mlp.{n}_proj.weight": draw(*s) for n, s in shapes.items()}
            for name in ("input_layernorm", "post_attention_layernorm"):
                found[f"model.layers.{layer}.{name}.weight"] = norm()
        return found
    found = {"wte.weight": draw(V, D), "wpe.weight": draw(CONTEXT, D), "ln_f.weight": norm(), "ln_f.bias": draw(D)}
    for layer in range(LAYERS):
        shapes = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}
        for name, shape in shapes.items():
            found |= {f"h.{layer}.{name}.weight": draw(*shape), f"h.{layer}.{name}.bias": draw(shape[1])}
        for name in ("ln_1", "ln_2"):
            found |= {f"h.{layer}.{name}.weight": norm(), f"h.{layer}.{name}.bias": draw(D)}
    return found


def tokenizer():
    """Bytes with a few merges, and an end token."""
    model = models.BPE({piece: i for i, piece in enumerate(PIECES)}, MERGES)
    found = tokenizers.Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens([END])
    return found


def ids_of(text):
    return tokenizer().encode(text).ids


def write_model(folder, kind, given=None, **config):
    """A model's directory. given: its weights. config: other values of its config.json. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind] | config))
    save_file(weights(kind) if given is None else given, folder / "model.safetensors")
    saved = tokenizer()  # with what a scorer must leave aside
    saved.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    saved.enable_truncation(5)
    saved.enable_padding()
    saved.save(str(folder / "tokenizer.json"))
    return folder


def states(kind, given, ids):
    """(last hidden states [n, D], logits [n, V]) of one row of tokens, position by position, in float64."""
    p = {name.removeprefix("model."): array.astype(np.float64) for name, array in given.items()}
    run = _gpt2 if kind == "gpt2" else _llama
    return run(p, ids)


def surprises(logits, ids):
    """[n - 1] nats: -log p of each token but the first, from the logits [n, V] before it."""
    return [np.log(np.exp(row).sum()) - row[token] for row, token in zip(logits, ids[1:])]


def _gpt2(p, ids):
    x = [p["wte.weight"][token] + p["wpe.weight"][place] for place, token in enumerate(ids)]
    for layer in range(LAYERS):

        def linear(v, name, layer=layer):
            return v @ p[f"h.{layer}.{name}.weight"] + p[f"h.{layer}.{name}.bias"]

        qkv = [linear(_layer_norm(v, p, f"h.{layer}.ln_1"), "attn.c_attn") for v in x]
        y = _attention([np.split(one, 3) for one in qkv], HEADS)
        x = [v + linear(one, "attn.c_proj") for v, one in zip(x, y)]
        inner = [linear(_layer_norm(v, p, f"h.{layer}.ln_2"), "mlp.c_fc") for v in x]
        x = [v + linear(_gelu(one), "mlp.c_proj") for v, one in zip(x, inner)]
    last = np.stack([_layer_norm(v, p, "ln_f") for v in x])
    return last, last @ p["wte.weight"].T


def _llama(p, ids):
    x = [p["embed_tokens.weight"][token] for token in ids]
    for layer in range(LAYERS):

        def linear(v, name, layer=layer):
            return p[f"layers.{layer}.{name}_proj.weight"] @ v

        read = [_rms(v, p[f"layers.{layer}.input_layernorm.weight"]) for v in x]
        qkv = [[linear(v, f"self_attn.{n}") for n in "qkv"] for v in read]
        turned = [[_turn(q, place), _turn(k, place), v] for place, (q, k, v) in enumerate(qkv)]
        y = _attention(turned, KV_HEADS)
        x = [v + linear(one, "self_attn.o") for v, one in zip(x, y)]
        read = [_rms(v, p[f"layers.{layer}.post_attention_layernorm.weight"]) for v in x]
        for place, v in enumerate(read):
            gate = linear(v, "mlp.gate")
            x[place] = x[place] + linear(gate / (1 + np.exp(-gate)) * linear(v, "mlp.up"), "mlp.down")
    last = np.stack([_rms(v, p["norm.weight"]) for v in x])
    return last, last @ p["lm_head.weight"].T


def _attention(qkv, kv_heads):
    """Of each position, over those up to it. qkv: [n] of (q, k, v)."""
    width, out = D // HEADS, []
    for place, (q, _, _) in enumerate(qkv):
        parts = []
        for head in range(HEADS):
            of = head * kv_heads // HEADS
            mine = q[head * width : (head + 1) * width]
            weight = np.array([mine @ k[of * width : (of + 1) * width] for _, k, _ in qkv[: place + 1]])
            weight = np.exp(weight / math.sqrt(width))
            values = np.array([v[of * width : (of + 1) * width] for _, _, v in qkv[: place + 1]])
            parts.append(weight @ values / weight.sum())
        out.append(np.concatenate(parts))
    return out


def _turn(vector, place):
    """Rotary: the numbers i and i + d/2 of a head as a complex number, times exp(i place / base^(2i/d))."""
    heads = vector.reshape(-1, 2, D // HEADS // 2)
    half = heads.shape[-1]
    turned = (heads[:, 0] + 1j * heads[:, 1]) * np.exp(1j * place / BASE ** (np.arange(half) / half))
    return np.stack([turned.real, turned.imag], axis=1).ravel()


def _layer_norm(v, p, name):
    return (v - v.mean()) / np.sqrt(v.var() + EPSILON) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _rms(v, weight):
    return v / np.sqrt((v**2).mean() + EPSILON) * weight


def _gelu(v):
    return 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
