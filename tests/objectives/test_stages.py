"""Stages of training: each step gets exactly its own objective."""

import functools

import jax
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.objectives import Stages, make_objective

V, MASK = 11, 10


def objective(kernel_name, loss, **options):
    return make_objective(name=loss, kernel=make_kernel(kernel_name, Vocabulary(V, MASK)), **options)


@functools.cache
def programs():
    """Of stages that change at step 5, and of each objective alone: (features, step) -> (batch, sums, gradient of the
    loss). Sums over chunks, whose functions hold arrays of a branch."""
    parts = tuple(objective(kernel, "nelbo", chunk=2) for kernel in ("absorbing", "uniform"))
    differentiate = functools.partial(jax.value_and_grad, has_aux=True)
    x0, mask, key = np.random.default_rng(3).integers(0, MASK, (4, 6)), np.ones((4, 6)), jax.random.key(3)

    def of_stages(features, step):
        batch = stages.corrupt(key, x0, mask, step)
        return batch, differentiate(lambda f: stages.sums(lambda f: f, f, batch, step, key))(features)

    def alone(part):
        def run(features):
            batch = part.corrupt(key, x0, mask)
            return batch, differentiate(lambda f: part.sums(lambda f: f, f, batch, key))(features)

        return run

    stages = Stages(parts, (0, 5))
    return jax.jit(of_stages), [jax.jit(alone(part)) for part in parts]


@pytest.mark.parametrize("step, active", [(0, 0), (4, 0), (5, 1), (900, 1)])
def test_each_step_trains_its_own_objective(step, active):
    features = np.random.default_rng(4).standard_normal((4, 6, V), np.float32)
    of_stages, alone = programs()
    (batch, sums), (expected, expected_sums) = of_stages(features, np.int32(step)), alone[active](features)
    jax.tree.map(np.testing.assert_array_equal, batch, expected)
    for found, own in zip(jax.tree.leaves(sums), jax.tree.leaves(expected_sums), strict=True):
        np.testing.assert_allclose(found, own, rtol=1e-6)


def test_only_bayes_logits_mean_the_same_under_two_kernels():
    parts = tuple(objective(name, "nelbo", parameterization="direct") for name in ("absorbing", "uniform"))
    with pytest.raises(UserError, match="parameterization = 'bayes'"):
        Stages(parts, (0, 5))
    Stages(parts[1:], (0,))


def test_stages_follow_one_another():
    parts = (objective("absorbing", "nelbo"), objective("uniform", "nelbo"))
    for starts in ((0, -3), (2, 5)):
        with pytest.raises(UserError, match="stages must start at step 0"):
            Stages(parts, starts)
