import jax
import jax.numpy as jnp
import pytest

from semdlm_jax.network import Denoiser
from semdlm_jax.network.cost import training_operations


def test_the_formula_is_what_xla_counts():
    """Of the forward pass, a third of the whole, where matrices are all but all of the work."""
    denoiser = Denoiser(vocab_size=300, width=64, layers=2, heads=4, condition_width=2, unroll=2)
    params = jax.eval_shape(denoiser.init, jax.random.key(0))
    rows, length = 2, 96
    arguments = jax.ShapeDtypeStruct((rows, length), jnp.int32), jax.ShapeDtypeStruct((rows,), jnp.float32)
    counted = jax.jit(denoiser.apply).lower(params, *arguments).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(training_operations(denoiser, length) / 3 * rows * length, rel=0.12)
