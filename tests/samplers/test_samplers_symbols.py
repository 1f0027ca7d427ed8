"""Samplers on kernels whose noise has symbols of blocks: what they write is text, with the law of the text."""

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_samplers_methods import padded
from toy_samplers import assert_independent, plan_of, sample
from toys import MASK, P_DATA, V

from semdlm_jax.kernels import make_kernel
from semdlm_jax.samplers import Controls, Penalty, make_method

KERNELS = {
    "hdlm": {"blocks": "4", "resampled": 0, "path": "sequential", "speeds": "1,1"},
    "tdlm": {"blocks": "4,2", "resampled": 0, "path": "sequential"},
    "drawn_then_symbols": {"blocks": "4,2", "resampled": 1},
}
pytestmark = pytest.mark.usefixtures("quick_compile")
every_kernel = pytest.mark.parametrize("name", KERNELS)


def build(name):
    return make_kernel("nested", toys.vocabulary(), **KERNELS[name])


@every_kernel
def test_ancestral_steps_are_exact_at_any_number(name):
    """False alarm 1e-6 each, and as much for pairs of neighbors."""
    kernel, method = build(name), make_method("ancestral")
    for steps in (1, 2, 8):
        plan = padded(plan_of(kernel, method, steps, 4), 8)
        text, record = sample(kernel, "ancestral", (4000, 4), plan, key=steps, recorded=4000)
        assert_independent(text)
        if steps == 8:
            s = float(plan.s[3])
            x0, xt = np.indices((V, kernel.num_states))
            law = P_DATA @ np.asarray(kernel.prob(jnp.asarray(xt), jnp.asarray(x0), s), np.float64)
            toys.assert_frequencies(record.tokens[3], law / law.sum())


@pytest.mark.parametrize(
    "name, method", [("hdlm", "tau_leaping"), ("drawn_then_symbols", "blockwise"), ("tdlm", "gidd_correct")]
)
def test_other_samplers_write_text(name, method):
    """With the penalty on what is similar and given tokens, under tau-leaping a corrector too: what is given stays, and
    no symbol or mask is left."""
    kernel = build(name)
    is_given = np.zeros((8, 6), bool)
    is_given[:, :2] = True
    text, record = sample(
        kernel,
        method,
        (8, 6),
        steps=6,
        given=jnp.full((8, 6), 4),
        is_given=jnp.asarray(is_given),
        controls=Controls(penalty=Penalty(toys.table(), 0.5, 0.5)),
        corrector=(1, 0.3) if method == "tau_leaping" else (),
        recorded=8,
    )
    assert (np.asarray(text)[:, :2] == 4).all() and ((text >= 0) & (text < V) & (text != MASK)).all()
    assert np.isfinite(np.asarray(record.confidence)).all()
    assert (np.asarray(record.tokens) >= V).any()  # there were symbols on the way
