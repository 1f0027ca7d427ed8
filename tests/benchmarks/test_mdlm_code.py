"""What stands in for flash-attn in MDLM's code, against our own attention's parts. Needs PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is optional: pip install torch==2.13.0")

from benchmarks.mdlm_code import attend, load, rotate_qkv  # noqa: E402
from semdlm_jax.errors import UserError  # noqa: E402
from semdlm_jax.network.attention import rotate  # noqa: E402

B, L, H, D = 2, 5, 3, 4


def packed():
    return np.random.default_rng(0).standard_normal((B, L, 3, H, D)).astype(np.float32)


def test_queries_and_keys_are_turned_as_ours_are_and_values_not():
    angles = np.arange(L)[:, None] * 10_000.0 ** (-np.arange(D // 2) / (D // 2))
    qkv = packed()
    found = rotate_qkv(torch.tensor(qkv), *(torch.tensor(f(angles), dtype=torch.float32) for f in (np.cos, np.sin)))
    for part in (0, 1):
        np.testing.assert_allclose(found[:, :, part], rotate(qkv[:, :, part]), atol=1e-5)
    np.testing.assert_array_equal(found[:, :, 2], qkv[:, :, 2])


def test_every_row_attends_to_itself_alone():
    qkv = packed().astype(np.float64)
    q, k, v = np.moveaxis(qkv, 2, 0)
    scores = np.exp(np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(D))
    expected = np.einsum("bhij,bjhd->bihd", scores / scores.sum(-1, keepdims=True), v)
    found = attend(torch.tensor(qkv).flatten(0, 1), None, L, 0.0)
    np.testing.assert_allclose(found.reshape(B, L, H, D), expected, atol=1e-12)


def test_a_folder_without_the_code_is_told(tmp_path):
    with pytest.raises(UserError, match="no diffusion.py there: clone"):
        load(tmp_path)
