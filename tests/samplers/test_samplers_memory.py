"""What a step needs beside the network, at a real vocabulary: compiled, never run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.kernels import GlobalPrior, Kernel, NeighborTable, branches
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Network, Plan, Sampler, make_controls, make_method, make_plan

pytestmark = pytest.mark.usefixtures("quick_compile")

V, SHAPE, WIDTH, K = 30522, (8, 128), 8, 4


@functools.cache
def table():
    ids = (np.arange(V)[:, None] + 1 + np.arange(K)) % V
    return NeighborTable.from_lists(ids, np.full(ids.shape, 0.5))


def described(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.asarray(x).dtype), tree)


@pytest.mark.parametrize(
    ("method", "options", "recorded"),
    [
        # What needs memory all at once: less of it needs no more.
        ("ancestral", {"lambda_freq": 0.5, "lambda_sem": 0.5, "top_p": 0.9}, 2),
        ("ancestral", {"lambda_freq": 0.5, "lambda_sem": 0.5, "top_p": 0.9}, 0),
        ("blockwise", {"lambda_freq": 0.5, "lambda_sem": 0.5, "window": 16, "top_p": 0.9}, 2),
        ("gidd_correct", {}, 2),
    ],
)
def test_no_more_than_two_rows_of_logits_for_every_position(method, options, recorded):
    """Beside the arguments: 2 float32 arrays [B, L, V]; where coins fall first, a quarter of one."""
    kernel = Kernel(table(), GlobalPrior.uniform(V), branches.SemanticThenGlobal(K, 1.0))
    plan = make_plan(kernel, 8, 2, SHAPE[1], 1e-3)
    controls = make_controls(table(), **options, forbidden_V=np.arange(V) < 999)

    def text(key, weights, kernel, plan, controls, given, is_given):
        network = Network(lambda tokens, t, lengths: weights[tokens], lambda features: features @ weights.T)
        sampler = Sampler(make_method(method), kernel, make_posterior())
        return sampler.sample(key, network, given, is_given, Plan(*plan), controls, recorded=recorded)

    given, is_given, weights = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, bool), np.zeros((V, WIDTH), np.float32)
    arguments = described((jax.random.key_data(jax.random.key(0)), weights, kernel, plan, controls, given, is_given))
    compiled = jax.jit(lambda key, *rest: text(jax.random.wrap_key_data(key), *rest)).lower(*arguments).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary <= (2 if recorded else 0.25) * 4 * SHAPE[0] * SHAPE[1] * V
