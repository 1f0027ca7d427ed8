"""Stages of training: each step gets exactly its own objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.objectives import Stages, make_objective

V, MASK = 11, 10


def objective(kernel_name, loss, **options):
    return make_objective(name=loss, kernel=make_kernel(kernel_name, Vocabulary(V, MASK)), **options)


@pytest.mark.parametrize("step, active", [(0, 0), (4, 0), (5, 1), (900, 1)])
def test_each_step_trains_its_own_objective(step, active):
    parts = (objective("absorbing", "nelbo"), objective("uniform", "denoising"))
    stages = Stages(parts, (0, 5))
    key = jax.random.key(3)
    x0 = jax.random.randint(key, (4, 6), 0, MASK)
    features, mask = jax.random.normal(key, (4, 6, V)), jnp.ones((4, 6))

    def run(step):
        batch = stages.corrupt(key, x0, mask, step)
        return batch, stages.sums(lambda f: f, features, batch, step, key)

    batch, sums = jax.jit(run)(jnp.int32(step))
    expected = parts[active].corrupt(key, x0, mask)
    jax.tree.map(np.testing.assert_array_equal, batch, expected)
    np.testing.assert_allclose(sums, parts[active].sums(lambda f: f, features, expected, key), rtol=1e-6)


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
