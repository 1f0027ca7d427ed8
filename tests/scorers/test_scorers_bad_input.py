"""What is refused, in one sentence with what to do."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from toy_models import CONFIGS, V, tokenizer, weights, write_model

from semdlm_jax.errors import UserError
from semdlm_jax.scorers import make_scorer


def refused(spec, *words, **options):
    with pytest.raises(UserError) as error:
        make_scorer(spec, **options)
    told = str(error.value)
    assert "\n" not in told and not told.endswith("."), told
    for word in words:
        assert word in told, told


@pytest.mark.parametrize(
    "spec, words",
    {
        "gpt2-large": ["gpt2-large", "hf, package, run"],
        "hg:gpt2-large": ["unknown scorer 'hg'", "did you mean 'hf'"],
        "hf:": ["needs a model", "hf:gpt2-large"],
        "hf:no/such-model": ["hf:no/such-model: neither a directory nor a model", "hf download no/such-model"],
        "hf:a/b/c": ["neither a directory nor the name of a model"],
        "run:": ["run:WORKDIR"],
        "run:/no/such/run": ["/no/such/run"],
    }.items(),
)
def test_what_is_not_there(spec, words):
    refused(spec, *words)


def test_options(tmp_path):
    spec = f"hf:{write_model(tmp_path, 'gpt2')}"
    refused(spec, "context = 33 is not possible with this model: give 2 to 32", context=33)
    refused(spec, "context = 1", context=1)
    refused(spec, "no option 'bas'", "did you mean 'bos'", bas=True)
    refused(spec, "batch_tokens = 0", batch_tokens=0)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["gpt2"] | {"bos_token_id": None}))
    other = tokenizer().to_str().replace("<|endoftext|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(other)
    refused(spec, "names no token that begins a text: give bos=False")


@pytest.mark.parametrize(
    "kind, changed, words",
    [
        ("gpt2", {"model_type": "bert"}, ["model_type 'bert'", "valid names: gpt2, llama"]),
        ("gpt2", {"model_type": None}, ["model_type"]),
        ("gpt2", {"activation_function": "relu"}, ["activation_function = 'relu'", "'gelu_new'", "another model"]),
        ("gpt2", {"n_embd": "wide"}, ["n_embd is 'wide', no whole number above 0"]),
        ("gpt2", {"n_layer": 3}, ["the weight 'h.2.ln_1.weight' is missing"]),
        ("gpt2", {"n_layer": 1}, ["the weight 'h.1.attn.c_attn.bias' is of a network that is not read here"]),
        ("gpt2", {"vocab_size": V + 1}, [f"the weight 'wte.weight' is [{V}, 32]", f"[{V + 1}, 32] in its config"]),
        ("gpt2", {"vocab_size": V - 1}, [f"ids up to {V - 1}", f"has {V - 1} rows"]),
        ("gpt2", {"n_head": 5}, ["5 heads do not divide a width of 32"]),
        ("gpt2", {"layer_norm_epsilon": 0}, ["layer_norm_epsilon is 0, no number above 0"]),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, ["rope_scaling", "None", "another model"]),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, ["rope_type = 'yarn'"]),
        ("llama", {"rope_parameters": [1]}, ["rope_parameters is [1], which is no section"]),
        ("llama", {"num_key_value_heads": 3}, ["4 heads", "3 of keys"]),
        ("llama", {"attention_bias": True}, ["attention_bias = True"]),
    ],
)
def test_another_network(kind, changed, words, tmp_path):
    refused(f"hf:{write_model(tmp_path, kind, **changed)}", *words)


def test_damaged_files(tmp_path):
    spec, given = f"hf:{write_model(tmp_path, 'llama')}", weights("llama")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused(spec, "model.safetensors", "not a readable .safetensors file", "download it again")
    del given["model.layers.1.mlp.up_proj.weight"]
    save_file(given, path)
    refused(spec, "the weight 'layers.1.mlp.up_proj.weight' is missing")
    path.unlink()
    refused(spec, "holds no .safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    refused(spec, "tokenizer.json", "cannot read it")
    (tmp_path / "tokenizer.json").unlink()
    refused(spec, "holds no tokenizer.json")
    (tmp_path / "config.json").write_text("[1]")
    refused(spec, "config.json: no configuration of a model")
    (tmp_path / "config.json").write_text("{")
    refused(spec, "config.json: no JSON")
    (tmp_path / "config.json").unlink()
    refused(spec, "config.json")


@pytest.mark.parametrize(
    "texts, words",
    [
        ("one text", "give a list of them"),
        (None, "give a list of them"),
        ([], "there is no text to score"),
        (["a", 3], "text 1 of those to score is 3"),
        (["a\ud800"], "text 0 of those to score is not valid Unicode"),
    ],
)
def test_no_texts(texts, words, tmp_path):
    scorer = make_scorer(f"hf:{write_model(tmp_path, 'gpt2')}")
    with pytest.raises(UserError, match=words):
        scorer.score(texts)


@pytest.mark.usefixtures("quick_compile")
def test_weights_that_are_not_finite(tmp_path):
    given = weights("gpt2")
    given["ln_f.bias"][0] = np.nan
    scorer = make_scorer(f"hf:{write_model(tmp_path, 'gpt2', given)}")
    with pytest.raises(UserError, match="gives no finite score: its weights are damaged"):
        scorer.score(["the"])
