"""Rates of a training, and what devices could do."""

import types

import pytest

from semdlm_jax.runtime import speed
from semdlm_jax.runtime.speed import Speed, peak


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(speed.time, "monotonic", lambda: now.seconds)
    return now


def devices(kind, count=2):
    return [types.SimpleNamespace(device_kind=kind)] * count


def test_the_first_step_and_pauses_are_left_out(clock):
    rates = Speed(1000, 6e9, "bfloat16", devices("NVIDIA H100 80GB HBM3"))
    clock.seconds += 60  # compiles
    assert rates.take(1) == {}
    clock.seconds += 2
    found = rates.take(5)
    assert found == {"tokens_per_second": 2000.0, "teraflops_per_second": 12.0, "mfu": pytest.approx(12 / (2 * 989))}
    clock.seconds += 30  # validates
    rates.restart(5)
    clock.seconds += 1
    assert rates.take(6)["tokens_per_second"] == 1000.0


def test_counting_begins_once(clock):
    rates = Speed(10, 1e9, "float32", devices("cpu"))
    rates.begin(1)
    clock.seconds += 1
    rates.begin(2)
    clock.seconds += 1
    assert rates.take(3) == {"tokens_per_second": 10.0, "teraflops_per_second": 0.01}


@pytest.mark.parametrize(
    "kind, bfloat16, float32",
    [
        ("NVIDIA H100 80GB HBM3", 989, 494),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA L4", 121, 60),
        ("TPU v4", 275, 275),
        ("TPU v5 lite", 197, 197),
        ("TPU v5p", None, None),  # JAX calls it TPU v5
        ("TPU v5", 459, 459),
        ("NVIDIA L40", None, None),
        ("cpu", None, None),
    ],
)
def test_peaks(kind, bfloat16, float32):
    assert peak(kind, "bfloat16") == (bfloat16 and bfloat16 * 1e12)
    assert peak(kind, "float32") == (float32 and float32 * 1e12)
