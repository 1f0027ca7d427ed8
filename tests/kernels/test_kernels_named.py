"""Schedules and the registry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, K, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, make_kernel
from semdlm_jax.kernels.schedules import Practical, SemanticThenGlobal


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_weights_and_their_derivatives(float64, toy):
    schedule = toy.build().schedule
    t = np.linspace(0.001, 0.999, 57)
    values, derivatives = jax.jvp(schedule.weights, (jnp.asarray(t),), (jnp.ones_like(t),))
    expected = [np.broadcast_to(w, t.shape) for w in toy.weights(t + 1e-30j)]
    for value, slope, exact in zip(values, derivatives, expected, strict=True):
        np.testing.assert_allclose(value, exact.real, atol=1e-14)
        np.testing.assert_allclose(slope, exact.imag / 1e-30, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_weights_are_probabilities_from_end_to_end(toy):
    schedule = toy.build().schedule
    alpha, beta, sigma, growth = (np.asarray(w) for w in schedule.weights(jnp.linspace(0, 1, 101)))
    np.testing.assert_allclose(alpha + beta + sigma, 1, atol=3e-7)
    assert min(alpha.min(), beta.min(), sigma.min()) >= 0
    assert alpha[0] == 1 and growth.min() >= 0 and growth.max() <= K - 1
    assert (np.diff(alpha) <= 0).all() and (np.diff(growth) >= 0).all()


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_derivatives_are_finite_in_float32(toy):
    t = jnp.array([1e-5, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-5])
    _, derivatives = jax.jvp(toy.build().schedule.weights, (t,), (jnp.ones_like(t),))
    assert all(np.isfinite(slope).all() for slope in derivatives)


def test_practical_contains_the_papers_default():
    t = jnp.linspace(0, 1, 33)
    for one, other in zip(Practical(9, 2.0).weights(t), SemanticThenGlobal(9, 2.0).weights(t), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gamma": 0.0}, "gamma > 0"),
        ({"gamma": -1.0}, "gamma > 0"),
        ({"k_max": 0}, "k_max >= 1"),
        ({"alpha_min": 0.3, "beta_max": 0.8}, "semantic branch"),
        ({"beta_power": 0.5}, "semantic branch"),
        ({"alpha_min": -0.2}, "alpha_min"),
        ({"beta_max": -0.2}, "beta_max"),
        ({"alpha_power": -1.0}, "alpha_power"),
        ({"beta_power": -1.0}, "beta_power"),
    ],
)
def test_impossible_schedules_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        Practical(**{"k_max": K, **options})
    if set(options) <= {"gamma", "k_max"}:
        with pytest.raises(UserError, match=says):
            SemanticThenGlobal(**{"k_max": K, **options})


def build(name, **options):
    return make_kernel(name, **{"vocab_size": V, "mask_id": toys.MASK, "table": toys.table(), **options})


def test_unknown_names_and_options():
    with pytest.raises(UserError, match="unknown kernel 'absorbin'.*did you mean 'absorbing'"):
        build("absorbin")
    with pytest.raises(UserError, match="no option 'gama'.*did you mean 'gamma'"):
        build("semdlm_plus", gama=2.0)
    with pytest.raises(UserError, match="no option 'gamma'"):
        build("absorbing", gamma=2.0)


@pytest.mark.parametrize("name", KERNELS)
def test_tables_of_another_vocabulary(name):
    with pytest.raises(UserError, match=f"of {V} tokens but the vocabulary has 13"):
        build(name, vocab_size=13)


@pytest.mark.parametrize("name", KERNELS)
def test_without_a_table(name):
    """Either the kernel needs none, or it says how to get one."""
    try:
        kernel = build(name, table=None)
    except UserError as error:
        assert "semdlm_jax.semantics.build" in str(error)
    else:
        assert kernel.vocab_size == V and kernel.table.k_max == 0


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_pass_through_jit(name):
    kernel = build(name)
    rebuilt = jax.jit(lambda kernel: kernel)(kernel)
    assert rebuilt.schedule == kernel.schedule and rebuilt.mask_id == kernel.mask_id
    assert hash(kernel.schedule) == hash(rebuilt.schedule)
