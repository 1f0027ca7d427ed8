import sys
import types

import ml_dtypes
import numpy as np
import pytest
from model_files import onnx_tensor, write_onnx, write_safetensors

from semdlm_jax.errors import UserError
from semdlm_jax.semantics.onnx import read_onnx
from semdlm_jax.semantics.weights import read_safetensors, read_torch

ROWS = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)  # 300 and 6000 take varints of two bytes


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8"])
def test_onnx_weights_come_back(tmp_path, dtype):
    array, scale = (ROWS * 50).astype(dtype), np.array([0.5], np.float32)
    path = write_onnx(tmp_path / "a.onnx", onnx_tensor("x", array), onnx_tensor("scale", scale, packed=False))
    first, second = read_onnx(path)
    assert (first.name, first.shape) == ("x", (300, 5)) and (second.name, second.shape) == ("scale", (1,))
    np.testing.assert_array_equal(first.values(), array)
    assert first.values().dtype == dtype and second.values() == scale


@pytest.mark.parametrize("floats", ["packed", "single"])
def test_onnx_floats_that_are_not_raw(tmp_path, floats):
    (weight,) = read_onnx(write_onnx(tmp_path / "a.onnx", onnx_tensor("x", ROWS[:7], floats=floats)))
    np.testing.assert_array_equal(weight.values(), ROWS[:7])


def test_onnx_of_other_kinds_is_told_when_asked_for(tmp_path):
    counts = onnx_tensor("counts", np.arange(3))
    away = onnx_tensor("away", ROWS, outside=True)
    short = onnx_tensor("short", ROWS).replace(ROWS.tobytes(), ROWS[1:].tobytes().ljust(ROWS.nbytes - 1, b"\0"))
    path = write_onnx(tmp_path / "a.onnx", counts, away)
    for weight, words in zip(read_onnx(path), ("'counts' is of ONNX data type 7", "'away' is kept in another file")):
        with pytest.raises(UserError, match=words):
            weight.values()
    with pytest.raises(UserError, match="not a readable .onnx file"):
        read_onnx(write_onnx(tmp_path / "b.onnx", short))


def test_onnx_agrees_with_its_own_package(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensors = [onnx.numpy_helper.from_array(ROWS, "x"), onnx.helper.make_tensor("y", 1, [7, 5], ROWS[:7].ravel())]
    graph = onnx.helper.make_graph([], "graph", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    found = {weight.name: weight.values() for weight in read_onnx(tmp_path / "a.onnx")}
    np.testing.assert_array_equal(found["x"], ROWS)
    np.testing.assert_array_equal(found["y"], ROWS[:7])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", ml_dtypes.bfloat16])
def test_safetensors_come_back(tmp_path, dtype):
    array = (ROWS * 50).astype(dtype)
    first, second = read_safetensors(write_safetensors(tmp_path / "a.safetensors", x=array, y=array[:2]))
    assert (first.name, first.shape, second.name, second.shape) == ("x", (300, 5), "y", (2, 5))
    assert first.values().dtype == dtype
    np.testing.assert_array_equal(first.values(), array)
    np.testing.assert_array_equal(second.values(), array[:2])


def damaged(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    return path


@pytest.mark.parametrize("keep", [0, 3, 40, -30])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_damaged_files_are_told(tmp_path, suffix, keep):
    path = tmp_path / f"a.{suffix}"
    read, write = {
        "onnx": (read_onnx, lambda: write_onnx(path, onnx_tensor("x", ROWS))),
        "safetensors": (read_safetensors, lambda: write_safetensors(path, x=ROWS)),
    }[suffix]
    write()
    damaged(path, keep)
    with pytest.raises(UserError, match=rf"a\.{suffix}: not a"):
        read(path)


def test_files_of_other_kinds_are_told(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("<html>not found</html>" * 99)
    for read in (read_onnx, read_safetensors):
        for path in (text, tmp_path / "none", tmp_path):
            with pytest.raises(UserError, match="not a"):
                read(path)


def test_torch_files_need_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs PyTorch to be read: pip install torch, or .* .safetensors"):
        read_torch(tmp_path / "pytorch_model.bin")


def test_torch_files_are_read_with_it(tmp_path, monkeypatch):
    """Through a stand-in for torch: what is asked of it is little."""

    class Tensor:
        shape = (2, 5)

        def float(self):
            return self

        def numpy(self):
            return ROWS[:2]

    def load(path, map_location, weights_only):
        if not path.name.startswith("pytorch") or (map_location, weights_only) != ("cpu", True):
            raise EOFError("damaged")
        return {"x": Tensor()}

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    (weight,) = read_torch(tmp_path / "pytorch_model.bin")
    assert (weight.name, weight.shape) == ("x", (2, 5))
    np.testing.assert_array_equal(weight.values(), ROWS[:2])
    with pytest.raises(UserError, match=r"other\.bin: not a readable PyTorch file \(damaged\)"):
        read_torch(tmp_path / "other.bin")
