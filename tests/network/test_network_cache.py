"""Cached decoding against the causal pass over the whole sequence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.network import Denoiser

V, L, B = 20, 7, 3
SMALL = Denoiser(vocab_size=V, width=16, layers=3, heads=2, condition_width=8, causal=True)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(V, size=(B, L)))


@functools.cache
def random_params(denoiser):
    """No zeros: at initialization attention adds nothing, whatever is cached."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(denoiser.init, jax.random.key(0)))
    draw = np.random.default_rng(1)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * draw.standard_normal(x.shape), x.dtype) for x in leaves])


@functools.partial(jax.jit, static_argnums=0)
def decode(denoiser, params, cache, tokens_BxL=TOKENS):
    """(features [B, L, D], cache): the tokens one after another."""

    def turn(cache, now):
        features_BxD, cache = denoiser.step(params, *now, cache)
        return cache, features_BxD

    cache, features_LxBxD = jax.lax.scan(turn, cache, (tokens_BxL.T, jnp.arange(tokens_BxL.shape[1])))
    return features_LxBxD.swapaxes(0, 1), cache


@functools.partial(jax.jit, static_argnums=0)
def whole(denoiser, params, tokens_BxL=TOKENS):
    return denoiser.features(params, tokens_BxL, jnp.zeros(len(tokens_BxL)))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"unroll": 3},
        {"remat": True},
        {"tied_output": True},
        {"time_conditioning": False},
        {"unroll": 2, "remat": True, "tied_output": True, "dropout": 0.5},
    ],
    ids=str,
)
def test_steps_are_the_causal_pass(how):
    """To 1e-5 at every position, of features of unit size: float32's rounding through three layers."""
    denoiser = dataclasses.replace(SMALL, **how)
    params = random_params(denoiser)
    features, _ = decode(denoiser, params, denoiser.init_cache(B, L))
    expected = whole(denoiser, params)
    assert features.shape == (B, L, 16) and features.dtype == jnp.float32 and np.std(expected) > 0.3
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    logits = jax.jit(denoiser.logits)(params, features[:, -1])
    assert logits.shape == (B, V)
    np.testing.assert_allclose(
        logits, jax.jit(denoiser.apply)(params, TOKENS, jnp.zeros(B))[:, -1], rtol=1e-4, atol=1e-4
    )


def test_every_position_depends_on_all_before_it():
    """What the comparison above could not tell from an attention that forgets."""
    params, other = random_params(SMALL), TOKENS.at[:, 0].set((TOKENS[:, 0] + 1) % V)
    one, _ = decode(SMALL, params, SMALL.init_cache(B, L))
    changed, _ = decode(SMALL, params, SMALL.init_cache(B, L), other)
    assert (np.abs(one - changed).max(2) > 1e-3).all()


def test_what_the_cache_holds_from_the_position_on_is_never_read():
    """Room for more tokens than come, and what an earlier text left there."""
    params = random_params(SMALL)
    empty = SMALL.init_cache(B, L + 3)
    stale = jax.tree.map(lambda x: x + 7.0, empty)
    features, filled = decode(SMALL, params, empty)
    np.testing.assert_allclose(features, whole(SMALL, params), rtol=0, atol=1e-5)
    again, overwritten = decode(SMALL, params, stale)
    np.testing.assert_array_equal(again, features)
    for before, after in zip(jax.tree.leaves((empty, stale)), jax.tree.leaves((filled, overwritten)), strict=True):
        np.testing.assert_array_equal(after[:, :, L:], before[:, :, L:])
        assert (after[:, :, :L] != before[:, :, :L]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_cache_is_empty_and_of_the_compute_dtype(dtype):
    cache = dataclasses.replace(SMALL, dtype=dtype).init_cache(B, L)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(cache)] == [((3, B, L, 2, 8), jnp.dtype(dtype))] * 2
    assert not any(np.any(x) for x in jax.tree.leaves(cache))


def test_bfloat16_stays_near_the_causal_pass():
    """Within 5 % of the features' spread, as bfloat16 stays near float32: the two passes sum in different orders, and
    8 bits of mantissa keep another neighbor of each sum."""
    half = dataclasses.replace(SMALL, dtype="bfloat16")
    features, cache = decode(half, random_params(half), half.init_cache(B, L))
    assert {x.dtype for x in jax.tree.leaves((features, cache))} == {jnp.dtype("bfloat16")}
    for expected in (whole(half, random_params(half)), whole(SMALL, random_params(SMALL))):
        error = np.float32(features) - np.float32(expected)
        assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(np.float32(expected))


def test_parameters_are_those_of_every_checkpoint():
    """Names and shapes, written out: what decodes from a cache loads what was trained without one."""
    shapes = {
        "blocks/attention/out/kernel": (3, 16, 16),
        "blocks/attention/qkv/kernel": (3, 16, 48),
        "blocks/mlp/down/kernel": (3, 64, 16),
        "blocks/mlp/up/kernel": (3, 16, 64),
        "blocks/modulation/bias": (3, 96),
        "blocks/modulation/kernel": (3, 8, 96),
        "embed/embedding": (V, 16),
        "final_modulation/bias": (32,),
        "final_modulation/kernel": (8, 32),
        "output/embedding": (V, 16),
        "output_bias": (V,),
        "time_embedding/hidden/bias": (8,),
        "time_embedding/hidden/kernel": (128, 8),
        "time_embedding/out/bias": (8,),
        "time_embedding/out/kernel": (8, 8),
    }
    for causal in (True, False):
        params = jax.eval_shape(dataclasses.replace(SMALL, causal=causal).init, jax.random.key(0))
        found = jax.tree_util.tree_flatten_with_path(params)[0]
        assert {"/".join(key.key for key in path): leaf.shape for path, leaf in found} == shapes


def test_only_a_causal_network_decodes_from_a_cache():
    both_ways = dataclasses.replace(SMALL, causal=False)
    with pytest.raises(UserError, match="network.causal = True"):
        both_ways.init_cache(B, L)
    with pytest.raises(UserError, match="network.causal = True"):
        both_ways.step(random_params(SMALL), TOKENS[:, 0], 0, SMALL.init_cache(B, L))
