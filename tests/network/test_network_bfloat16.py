"""bfloat16 rounds products, never sums: gradients of every parameter against float32's, at sizes that are trained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.network import Denoiser, attention
from semdlm_jax.network.attention import attend, rotate
from semdlm_jax.objectives import NoisyBatch, make_objective

V, MASK, B, L = 200, 199, 64, 128
WIDE = Denoiser(vocab_size=V, width=32, layers=2, heads=1, condition_width=8)
HALF = dataclasses.replace(WIDE, dtype="bfloat16")
OBJECTIVE = make_objective("denoising", make_kernel("absorbing", Vocabulary(V, MASK)), chunk=32)
# A bfloat16 is off by up to 2^-9, and some ten of them lie between a parameter and the loss; their errors do not share
# a sign. Measured: 0.1 to 0.6 %, and up to 0.9 % for the rows of tokens seen a hundred times.
NEAR = 0.02


def random_params(denoiser):
    """No zeros: at initialization every layer is the identity and passes no gradient on."""
    leaves, tree = jax.tree.flatten(jax.jit(denoiser.init)(jax.random.key(1)))
    draw = np.random.default_rng(1)
    return jax.tree.unflatten(tree, [x + np.float32(0.05 * draw.standard_normal(x.shape)) for x in leaves])


def skewed_tokens():
    """[B, L]: Zipf's frequencies, the commonest token at a sixth of all positions."""
    chances = 1 / np.arange(1, MASK + 1)
    return jnp.asarray(np.random.default_rng(0).choice(MASK, (B, L), p=chances / chances.sum()))


def loss(denoiser, params, x0, xt, t):
    """That of a training step, its logits in chunks of positions."""
    features = denoiser.features(params, xt, t)
    batch = NoisyBatch(x0, xt, t, jnp.ones(x0.shape))
    total, weight = OBJECTIVE.sums(lambda f: denoiser.logits(params, f), features, batch, jax.random.key(0))
    return total / weight


gradients = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)


def distance(one, other):
    """|one - other| / |other| over the last axis."""
    return np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)


def test_every_gradient_is_that_of_float32():
    x0 = skewed_tokens()
    _, xt, t, *_ = jax.jit(OBJECTIVE.corrupt)(jax.random.key(0), x0, x0)
    params = random_params(WIDE)
    expected, found = gradients(WIDE, params, x0, xt, t), gradients(HALF, params, x0, xt, t)
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    off = jax.tree.map(lambda a, b: float(distance(np.ravel(a), np.ravel(b))), found, expected)
    assert max(jax.tree.leaves(off)) < NEAR, off
    # A table as a whole is its commonest rows: the others are held one by one.
    often = np.bincount(np.ravel(xt), minlength=V) >= 100
    assert often.sum() >= 5 and often[MASK]
    rows = distance(found["embed"]["embedding"][often], expected["embed"]["embedding"][often])
    assert rows.max() < NEAR, rows


def test_a_token_at_every_position_gets_the_gradient_of_all():
    """8,192 masks that all pull one row the same way: summed in bfloat16, it would stop at 256 times one pull."""
    x0, xt, t = jnp.full((B, L), 3), jnp.full((B, L), MASK), jnp.full(B, 0.5)
    params = random_params(WIDE)
    expected, found = (gradients(d, params, x0, xt, t)["embed"]["embedding"] for d in (WIDE, HALF))
    assert distance(found[MASK], expected[MASK]) < NEAR
    np.testing.assert_array_equal(np.flatnonzero(np.any(found, axis=1)), [MASK])


def equations(jaxpr):
    """Every equation of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def body(scan):
    """The jaxpr of one turn; what is not carried gets an axis more outside it."""
    return getattr(scan.params["jaxpr"], "jaxpr", scan.params["jaxpr"])


@pytest.mark.parametrize("how", [{}, {"remat": True}, {"tied_output": True, "dropout": 0.1}], ids=str)
def test_nothing_is_summed_in_bfloat16(how):
    """In the program itself: a CPU widens some sums that other devices round at every term."""
    half = dataclasses.replace(HALF, **how)
    params, x0 = jax.eval_shape(half.init, jax.random.key(0)), jnp.zeros((2, 64), jnp.int32)
    jaxpr = jax.make_jaxpr(jax.grad(functools.partial(loss, half)))(params, x0, x0, jnp.full(2, 0.5)).jaxpr
    sums = [e for e in equations(jaxpr) if e.primitive.name in ("reduce_sum", "cumsum", "scatter-add", "reduce_window")]
    assert len(sums) > 10 and "scatter-add" in {e.primitive.name for e in sums}
    assert [e for e in sums if e.outvars[0].aval.dtype == jnp.bfloat16] == []
    # A scan adds up what its turns give of a parameter in that parameter's dtype: nothing of its shape is carried less.
    scans = [e for e in equations(jaxpr) if e.primitive.name == "scan"]
    carried = [v.aval for e in scans for v, turn in zip(e.outvars, body(e).outvars) if v.aval.shape == turn.aval.shape]
    assert carried
    assert [x for x in carried if x.dtype == jnp.bfloat16 and x.shape[:2] != (2, 64)] == []


def test_what_a_layer_keeps_for_its_gradients_is_no_wider_than_needed():
    """Of arrays [layers, B, L, D], float32: three of each norm. What gates and rotary positions widen is not kept."""
    params, x0 = jax.eval_shape(HALF.init, jax.random.key(0)), jnp.zeros((2, 64), jnp.int32)
    jaxpr = jax.make_jaxpr(jax.grad(functools.partial(loss, HALF)))(params, x0, x0, jnp.full(2, 0.5)).jaxpr
    kept = [v.aval for e in equations(jaxpr) if e.primitive.name == "scan" for v in e.outvars]
    wide = [x for x in kept if x.dtype == jnp.float32 and x.shape == (HALF.layers, 2, 64, HALF.width)]
    assert len(wide) == 6


def test_rotary_positions_round_once():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 16, 2, 8)), jnp.bfloat16)
    expected = rotate(x.astype(jnp.float32), first=1000)
    np.testing.assert_array_equal(rotate(x, first=1000), expected.astype(jnp.bfloat16))


def test_gradients_of_keys_and_values_are_summed_over_the_parts_of_queries_in_float32(monkeypatch):
    """Of 32 parts 1.2 times as far from float32's as of one; with sums in bfloat16 3.1 times."""
    q, k, v, out = (jax.random.normal(jax.random.key(n), (2, 256, 2, 8), jnp.bfloat16) for n in range(4))

    def found(dtype, queries):
        monkeypatch.setattr(attention, "QUERIES", queries)
        pull = jax.jit(
            lambda q, *kv: jax.vjp(lambda *kv: attend(q, *kv, None, False, "xla"), *kv)[1](out.astype(dtype))
        )
        return [np.ravel(np.asarray(x, np.float64)) for x in pull(*(x.astype(dtype) for x in (q, k, v)))]

    exact, whole, parts = found("float32", 256), found("bfloat16", 256), found("bfloat16", 8)
    for one, other, true in zip(parts, whole, exact, strict=True):
        assert distance(one, true) < 1.5 * distance(other, true)
