"""Schedules at their corners, AdamW against numpy, Muon's orthogonality."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.optimizer import LEARNING_RATES, OPTIMIZERS, is_matrix


def make_schedule(name, **options):
    """Over 100 steps."""
    return LEARNING_RATES.make(name, **options).build(100)


def make_optimizer(name, schedule, **options):
    return OPTIMIZERS.make(name, **options).build(schedule)


def test_every_schedule_warms_up_to_the_peak():
    for name in LEARNING_RATES:
        schedule = make_schedule(name, learning_rate=0.5, warmup_steps=10)
        np.testing.assert_allclose([schedule(0), schedule(4), schedule(9)], [0.05, 0.25, 0.5], rtol=1e-6)
        np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(9)), 0.5, rtol=1e-6)
        assert make_schedule(name, learning_rate=0.5, warmup_steps=0)(0) == 0.5


@pytest.mark.parametrize(
    "name, corners",
    [
        ("constant", {10: 1.0, 55: 1.0, 100: 1.0, 1000: 1.0}),
        ("cosine", {10: 1.0, 55: 0.55, 100: 0.1, 1000: 0.1}),
        ("wsd", {10: 1.0, 80: 1.0, 90: 0.55, 100: 0.1, 1000: 0.1}),
    ],
)
def test_schedule_corners(name, corners):
    falls = {"constant": {}, "cosine": {"final_fraction": 0.1}, "wsd": {"final_fraction": 0.1, "decay_fraction": 0.2}}
    schedule = make_schedule(name, learning_rate=3e-4, warmup_steps=10, **falls[name])
    for step, factor in corners.items():
        np.testing.assert_allclose(schedule(step), 3e-4 * factor, rtol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": "cosin"}, "did you mean 'cosine'"),
        ({"learning_rate": 0.0}, r"learning_rate = 0.0 .*\(0, 1000\]"),
        ({"warmup_steps": 100}, "do not fit in 100"),
        ({"final_fraction": 1.5}, r"\[0, 1\]"),
        ({"decay_fraction": 0.95}, r"give one in \(0, 0.9\]"),
    ],
)
def test_schedule_errors(change, words):
    good = {"name": "wsd", "learning_rate": 1e-3, "warmup_steps": 10, "decay_fraction": 0.2}
    with pytest.raises(UserError, match=words):
        make_schedule(**good | change)


def test_optimizer_errors():
    for name, change, words in (
        ("adam", {}, "did you mean 'adamw'"),
        ("adamw", {"b2": 1.0}, "b2 = 1.0"),
        ("muon", {"clip_norm": -1.0}, "clip_norm = -1.0"),
    ):
        with pytest.raises(UserError, match=words):
            make_optimizer(name, lambda step: 1e-3, **change)


def parameters(seed):
    """A miniature of a real tree: a scanned stack of 3 layers, tables, biases."""
    shapes = {
        "embed": {"embedding": (50, 8)},
        "blocks": {
            "attention": {"qkv": {"kernel": (3, 8, 24)}, "out": {"kernel": (3, 8, 8)}},
            "mlp": {"up": {"kernel": (3, 8, 32)}, "down": {"kernel": (3, 32, 8)}},
            "modulation": {"kernel": (3, 8, 48), "bias": (3, 48)},
        },
        "time_embedding": {"hidden": {"kernel": (16, 8), "bias": (8,)}},
        "output": {"embedding": (50, 8), "bias": (50,)},
    }
    draw = np.random.default_rng(seed).normal

    def is_shape(leaf):
        return isinstance(leaf, tuple)

    return jax.tree.map(lambda shape: jnp.float32(draw(size=shape)), shapes, is_leaf=is_shape)


def test_matrices_are_known_by_name_not_rank():
    assert is_matrix("blocks/attention/qkv/kernel") and is_matrix("output/embedding")
    assert not is_matrix("blocks/modulation/bias") and not is_matrix("output/bias")


def test_adamw_matches_numpy():
    b1, b2, eps, decay, clip, rate = 0.8, 0.9, 1e-6, 0.1, 1.0, 1e-2
    params = parameters(0)
    optimizer = make_optimizer(
        "adamw", lambda step: rate / (1 + step), b1=b1, b2=b2, eps=eps, weight_decay=decay, clip_norm=clip
    )
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    flat = jax.tree.leaves(params)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    expected = [np.array(leaf, np.float64) for leaf in flat]
    mean = [np.zeros_like(leaf) for leaf in expected]
    square = [np.zeros_like(leaf) for leaf in expected]
    for step in range(3):
        # The second gradient is so small that clipping must leave it alone.
        scale = 1e-3 if step == 1 else 1.0
        grads = jax.tree.map(lambda leaf, scale=scale: scale * leaf, parameters(step + 1))
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        plain = [np.array(leaf, np.float64) for leaf in jax.tree.leaves(grads)]
        norm = np.sqrt(sum((leaf**2).sum() for leaf in plain))
        for i, grad in enumerate(plain):
            grad = grad * min(1, clip / norm)
            mean[i] = b1 * mean[i] + (1 - b1) * grad
            square[i] = b2 * square[i] + (1 - b2) * grad**2
            direction = mean[i] / (1 - b1 ** (step + 1)) / (np.sqrt(square[i] / (1 - b2 ** (step + 1))) + eps)
            matrix = "'kernel'" in names[i] or "'embedding'" in names[i]
            expected[i] = expected[i] - rate / (1 + step) * (direction + decay * matrix * expected[i])
    for name, leaf, reference in zip(names, jax.tree.leaves(params), expected):
        np.testing.assert_allclose(leaf, reference, rtol=2e-5, atol=2e-6, err_msg=name)


def test_muon_orthogonalizes_each_layer_and_leaves_the_rest_to_adamw():
    params = parameters(0)
    grads = parameters(1)
    # Layers of very different gradient size: orthogonalized jointly, the small ones would vanish.
    size = jnp.array([1.0, 1e-2, 1e-3])[:, None, None]
    grads["blocks"]["mlp"] = jax.tree.map(lambda leaf: leaf * size, grads["blocks"]["mlp"])
    updates = {}
    for name in ("muon", "adamw"):
        optimizer = make_optimizer(name, lambda step: 0.1, clip_norm=0.0)
        updates[name], _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    hidden = {"qkv": (8, 24), "out": (8, 8), "up": (8, 32), "down": (32, 8)}
    blocks = updates["muon"]["blocks"]
    for part, (rows, columns) in hidden.items():
        update = (blocks["attention"] if part in ("qkv", "out") else blocks["mlp"])[part]["kernel"]
        singular = np.linalg.svd(update, compute_uv=False) / (0.1 * 0.2 * max(rows, columns) ** 0.5)
        assert singular.shape == (3, 8)
        # Five Newton-Schulz steps bring singular values to about [0.7, 1.2]; a square Gaussian's smallest ones lag.
        assert 0.6 < np.median(singular) < 1.3 and singular.max() < 1.3, part
        if rows != columns:
            assert singular.min() > 0.6, part
    for name in updates:
        del updates[name]["blocks"]["attention"], updates[name]["blocks"]["mlp"]
    for muon, adamw in zip(*map(jax.tree.leaves, updates.values()), strict=True):
        np.testing.assert_allclose(muon, adamw, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_reaches_matrices_only(name):
    params = parameters(0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(name, lambda step: 0.1, weight_decay=0.5)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    for path, update in jax.tree_util.tree_flatten_with_path(updates)[0]:
        leaf = params
        for key in path:
            leaf = leaf[key.key]
        factor = 0.0 if path[-1].key == "bias" else -0.05
        np.testing.assert_allclose(update, factor * leaf, rtol=1e-5, atol=1e-8)
