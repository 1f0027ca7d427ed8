"""The backbone against a plain numpy transcription, and the properties that the rest builds on."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.network import Denoiser, attention
from semdlm_jax.network.attention import attend, choose_attention, rotate

V, L, B = 20, 8, 3
SMALL = Denoiser(vocab_size=V, width=16, layers=2, heads=2, condition_width=8)
TOKENS = np.random.default_rng(0).integers(V, size=(B, L))
TIMES = np.array([0.1, 0.5, 0.9], np.float32)


@functools.cache
def random_params(denoiser):
    """No zeros: at initialization every layer is the identity and would hide its errors."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(denoiser.init, jax.random.key(0)))
    draw = np.random.default_rng(1)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * draw.standard_normal(x.shape), x.dtype) for x in leaves])


@functools.partial(jax.jit, static_argnums=0)
def apply(denoiser, params, tokens, t, lengths=None):
    return denoiser.apply(params, tokens, t, lengths_B=lengths)


@functools.partial(jax.jit, static_argnums=0)
def read(denoiser, params, tokens, t, clean=None):
    return denoiser.features(params, tokens, t, clean_BxL=clean)


def reference(params, tokens, t, heads, lengths, causal=False):
    """[B, L, V] logits of a tree of numpy float64 arrays."""

    def dense(layer, x):
        return x @ layer["kernel"] + layer.get("bias", 0)

    def silu(x):
        return x / (1 + np.exp(-x))

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def modulated(x, shift, scale):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * (1 + scale[:, None]) + shift[:, None]

    def attention(layer, x):
        width = x.shape[-1] // heads
        qkv = dense(layer["qkv"], x).reshape(*x.shape[:2], heads, 3, width)
        turn = np.exp(1j * np.arange(x.shape[1])[:, None] * 10000 ** (-np.arange(width // 2) / (width // 2)))
        pairs = qkv[..., : width // 2] + 1j * qkv[..., width // 2 :]
        q, k = (pairs[..., part, :] * turn[:, None] for part in (0, 1))
        scores = np.einsum("bqhc,bkhc->bhqk", q, k.conj()).real / np.sqrt(width)
        places = np.arange(x.shape[1])
        hidden = (places >= lengths[:, None])[:, None, None] | (causal & (places > places[:, None]))
        weights = np.exp(np.where(hidden, -np.inf, scores))
        weights /= weights.sum(-1, keepdims=True)
        return dense(layer["out"], np.einsum("bhqk,bkhd->bqhd", weights, qkv[..., 2, :]).reshape(x.shape))

    angles = t[:, None] * 1000 * 10000 ** (-np.arange(64) / 64)
    condition = dense(params["time_embedding"]["hidden"], np.concatenate([np.cos(angles), np.sin(angles)], -1))
    condition = silu(dense(params["time_embedding"]["out"], silu(condition)))
    x = params["embed"]["embedding"][tokens] * 50
    for index in range(len(params["blocks"]["modulation"]["kernel"])):
        layer = jax.tree.map(lambda stack, index=index: stack[index], params["blocks"])
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = np.split(dense(layer["modulation"], condition), 6, -1)
        x = x + attention(layer["attention"], modulated(x, shift, scale)) * (1 + gate)[:, None]
        hidden = gelu(dense(layer["mlp"]["up"], modulated(x, shift_mlp, scale_mlp)))
        x = x + dense(layer["mlp"]["down"], hidden) * (1 + gate_mlp)[:, None]
    x = modulated(x, *np.split(dense(params["final_modulation"], condition), 2, -1))
    return x @ params.get("output", params["embed"])["embedding"].T + params["output_bias"]


@pytest.mark.parametrize("queries", [256, 3], ids=["whole", "by queries"])
@pytest.mark.parametrize(("tied", "causal"), [(False, False), (True, False), (False, True)])
def test_logits_against_numpy(monkeypatch, tied, causal, queries):
    monkeypatch.setattr(attention, "QUERIES", queries)
    denoiser = dataclasses.replace(SMALL, tied_output=tied, causal=causal)
    params, lengths = random_params(denoiser), np.array([L, 5, 1])
    assert ("output" in params) != tied
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    logits = apply(denoiser, params, TOKENS, TIMES, lengths)
    assert logits.shape == (B, L, V) and logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, reference(wide, TOKENS, TIMES, 2, lengths, causal), rtol=1e-3, atol=1e-3)
    unhidden = reference(wide, TOKENS, TIMES, 2, np.full(B, L), causal)
    np.testing.assert_allclose(apply(denoiser, params, TOKENS, TIMES), unhidden, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
def test_long_rows_need_no_square_of_scores(monkeypatch, causal):
    """Rows of no whole number of parts have the gradients of the product that is taken at once, in less memory than
    their scores."""
    shape = 1, 2000, 4, 8
    q, k, v, out = (jax.random.normal(jax.random.key(n), shape) for n in range(4))

    def gradients(q, k, v):
        return jax.vjp(lambda *qkv: attend(*qkv, jnp.array([1900]), causal, "xla"), q, k, v)[1](out)

    compiled = jax.jit(gradients).lower(q, k, v).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 * 2000**2
    monkeypatch.setattr(attention, "QUERIES", 2000)
    for one, other in zip(compiled(q, k, v), gradients(q, k, v), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_hidden_tokens_change_nothing_that_is_visible():
    params, lengths = random_params(SMALL), np.full(B, 5)
    other = np.where(np.arange(L) < 5, TOKENS, (TOKENS + 1) % V)
    seen, changed = apply(SMALL, params, TOKENS, TIMES, lengths), apply(SMALL, params, other, TIMES, lengths)
    np.testing.assert_array_equal(seen[:, :5], changed[:, :5])
    # Visible, they would: every position sees every other.
    for place in (0, L - 1):
        other = TOKENS.copy()
        other[:, place] = (other[:, place] + 1) % V
        moved = np.abs(apply(SMALL, params, other, TIMES) - apply(SMALL, params, TOKENS, TIMES)).max((0, 2))
        assert (moved > 1e-4).all()


@pytest.mark.parametrize("place", [0, 3, L - 1])
def test_a_causal_network_reads_nothing_but_the_tokens_before(place):
    """A changed token changes no feature before its own place, to the bit, and every one from there on.

    Without `causal` it changes all.
    """
    other = TOKENS.copy()
    other[:, place] = (other[:, place] + 1) % V
    for causal in (True, False):
        denoiser, params = dataclasses.replace(SMALL, causal=causal), random_params(SMALL)
        moved = np.abs(read(denoiser, params, other, TIMES) - read(denoiser, params, TOKENS, TIMES)).max(2)
        assert moved.shape == (B, L) and (moved[:, place:] > 1e-4).all()
        assert (moved[:, :place] == 0).all() if causal else (moved[:, :place] > 1e-4).all()


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = np.random.default_rng(2).standard_normal((2, 6))
    turned = rotate(jnp.asarray(np.broadcast_to(np.stack([q, k]), (1, 12, 2, 6)), jnp.float32))[0]
    scores = np.asarray(turned[:, 0] @ turned[:, 1].T)
    for distance in range(-11, 12):
        np.testing.assert_allclose(np.diagonal(scores, distance), np.diagonal(scores, distance)[0], rtol=0, atol=1e-5)
    assert scores[0, 0] == pytest.approx(q @ k, abs=1e-5)
    assert np.ptp(scores[0]) > 0.1


def test_time_is_seen_only_where_asked_for():
    params = random_params(SMALL)
    for conditioned in (True, False):
        denoiser = dataclasses.replace(SMALL, time_conditioning=conditioned)
        early, late = apply(denoiser, params, TOKENS, TIMES), apply(denoiser, params, TOKENS, 1 - TIMES)
        # The middle time is the same in both.
        assert np.array_equal(early, late) != conditioned and np.array_equal(early[1], late[1])


def loss_and_gradients(denoiser, params):
    def loss(params):
        features = denoiser.features(params, TOKENS, TIMES, dropout_key=jax.random.key(5))
        return -jnp.mean(jax.nn.log_softmax(denoiser.logits(params, features))[..., 3])

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("how", [{"remat": True}, {"unroll": 2}], ids=str)
def test_how_layers_run_changes_neither_loss_nor_gradients(how):
    plain = dataclasses.replace(SMALL, dropout=0.2)
    found = loss_and_gradients(plain, random_params(SMALL))
    again = loss_and_gradients(dataclasses.replace(plain, **how), random_params(SMALL))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("capability, fuses", [("9.0", True), ("8.0", True), ("7.5", False), ("gfx942", False)])
def test_attention_is_fused_where_it_can_be(monkeypatch, capability, fuses):
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(compute_capability=capability)])
    assert choose_attention("auto", "bfloat16", 64) == ("cudnn" if fuses else "xla")
    assert choose_attention("xla", "bfloat16", 64) == "xla"
    for dtype, width in (("float32", 64), ("bfloat16", 60), ("bfloat16", 256)):
        assert choose_attention("auto", dtype, width) == "xla"
        with pytest.raises(UserError, match="'cudnn' needs"):
            choose_attention("cudnn", dtype, width)


def test_attention_that_cannot_be_is_refused():
    """Here, on a CPU, which has no compute capability; and of no such name."""
    assert choose_attention("auto", "bfloat16", 64) == "xla"
    with pytest.raises(UserError, match="NVIDIA card.*'auto' or 'xla'"):
        dataclasses.replace(SMALL, dtype="bfloat16", attention="cudnn")
    with pytest.raises(UserError, match="network.attention 'flash'"):
        dataclasses.replace(SMALL, attention="flash")


def test_bfloat16_stays_near_float32():
    """Within 5 % of the logits' spread, 8 bits of mantissa through two layers; the parameters stay float32."""
    half = dataclasses.replace(SMALL, dtype="bfloat16")
    params = random_params(SMALL)
    assert {x.dtype for x in jax.tree.leaves(jax.eval_shape(half.init, jax.random.key(0)))} == {jnp.dtype("float32")}
    exact, rounded = apply(SMALL, params, TOKENS, TIMES), apply(half, params, TOKENS, TIMES)
    assert rounded.dtype == jnp.float32 and np.isfinite(rounded).all()
    error = np.sqrt(np.mean((rounded - exact) ** 2)) / np.std(exact)
    assert 1e-4 < error < 0.05
    loss, gradients = loss_and_gradients(dataclasses.replace(half, dropout=0.2), params)
    assert np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_dropout_needs_a_key():
    denoiser, params = dataclasses.replace(SMALL, dropout=0.5), random_params(SMALL)

    @jax.jit
    def features(key):
        return denoiser.features(params, TOKENS, TIMES, dropout_key=key)

    one, other = features(jax.random.key(0)), features(jax.random.key(1))
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_array_equal(one, features(jax.random.key(0)))
    without, plain = (apply(one, params, TOKENS, TIMES) for one in (denoiser, SMALL))
    np.testing.assert_allclose(without, plain, rtol=1e-4, atol=1e-4)


def test_initialization():
    """Unit variance in, identity layers, even predictions out; layers are drawn apart."""
    denoiser = Denoiser(vocab_size=300, width=64, layers=3, heads=2, condition_width=16)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    blocks = params["blocks"]
    assert np.std(params["embed"]["embedding"]) * 50 == pytest.approx(1, rel=0.02)
    assert np.std(blocks["attention"]["qkv"]["kernel"]) == pytest.approx(64**-0.5, rel=0.02)
    assert np.std(blocks["mlp"]["up"]["kernel"]) == pytest.approx(64**-0.5, rel=0.02)
    for zero in (blocks["attention"]["out"], blocks["mlp"]["down"], blocks["modulation"], params["final_modulation"]):
        assert not np.any(zero["kernel"])
    assert not np.any(params["output"]["embedding"])
    kernels = np.asarray(blocks["attention"]["qkv"]["kernel"]).reshape(3, -1)
    assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 0.05
    np.testing.assert_array_equal(apply(denoiser, params, TOKENS, TIMES), 0)


def test_impossible_sizes_are_told():
    with pytest.raises(UserError, match="multiple of 2 × 3 heads"):
        Denoiser(vocab_size=V, width=16, heads=3)
    with pytest.raises(UserError, match="float32 or bfloat16, not 'float16'"):
        Denoiser(vocab_size=V, dtype="float16")


def test_a_mark_is_a_vector_added_to_clean_tokens():
    """The tokens of a second table, each with the mark in it, read without marks; without the mark no parameter and
    nothing else differs, and it begins as none."""
    marked = dataclasses.replace(SMALL, clean_mark=True)
    begin = jax.jit(marked.init)(jax.random.key(0))
    mark = begin.pop("clean_mark")
    assert mark.shape == (SMALL.width,) and not mark.any()
    jax.tree.map(np.testing.assert_array_equal, jax.jit(SMALL.init)(jax.random.key(0)), begin)

    plain, mark = random_params(SMALL), np.linspace(-0.4, 0.4, SMALL.width, dtype=np.float32)
    table, params = np.asarray(plain["embed"]["embedding"]), {**plain, "clean_mark": mark}
    clean = (np.arange(L) + np.arange(B)[:, None]) % 3 == 0
    both = {**plain, "embed": {"embedding": np.concatenate([table, table + mark])}}
    both |= {"output": {"embedding": np.zeros((2 * V, SMALL.width))}, "output_bias": np.zeros(2 * V)}
    wanted = read(dataclasses.replace(SMALL, vocab_size=2 * V), both, TOKENS + V * clean, TIMES)
    np.testing.assert_allclose(read(marked, params, TOKENS, TIMES, clean), wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(read(SMALL, plain, TOKENS, TIMES, clean) - wanted).max() > 0.1
