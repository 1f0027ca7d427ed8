"""Controls on draws: what they refuse, what they cost when off, and what a draw is taken from."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toy_samplers import keep_reference

from semdlm_jax.errors import UserError
from semdlm_jax.samplers import Controls, make_controls

pytestmark = pytest.mark.usefixtures("quick_compile")

TABLE = toys.table()
OFF = make_controls(TABLE)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": -1}, "top_k = -1"),
        ({"top_p": 0.0}, r"top_p = 0.0 .* \(0, 1\]"),
        ({"top_p": 1.01}, "top_p = 1.01"),
        ({"top_p": float("nan")}, "top_p = nan"),
        ({"lambda_freq": -1.0}, "lambda_freq = -1.0"),
        ({"lambda_sem": -0.5}, "lambda_sem = -0.5"),
        ({"lambda_sem": float("inf")}, "lambda_sem = inf"),
        ({"window": -3}, "window = -3"),
    ],
)
def test_values_out_of_range_are_refused_in_one_sentence(values, says):
    with pytest.raises(UserError, match=says) as refused:
        make_controls(TABLE, **values)
    assert "\n" not in str(refused.value) and ". " not in str(refused.value)


def test_what_is_off_has_no_arrays_and_no_operations():
    assert len(jax.tree.leaves(OFF)) == 2, "temperature and greedy_end"
    table = len(jax.tree.leaves(TABLE))
    for values, more in (({"top_k": 3}, 1), ({"top_p": 0.9}, 1), ({"lambda_freq": 1.0}, table + 2)):
        assert len(jax.tree.leaves(make_controls(TABLE, **values))) == 2 + more
    assert len(jax.tree.leaves(make_controls(TABLE, lambda_sem=1.0, window=3, forbidden_V=np.ones(toys.V, bool)))) == (
        2 + table + 2 + 1
    )
    assert make_controls(TABLE, window=3).penalty is None
    assert make_controls(TABLE, lambda_sem=1.0).penalty.window is None

    def program(controls):
        logits, text = jnp.zeros((2, toys.V)), jnp.zeros((2, 5), jnp.int32)
        return str(jax.make_jaxpr(lambda controls: controls.choose(toys.key(0), logits, text, 3))(controls))

    signs = {"top_k": "scan", "top_p": "scan", "lambda_sem": "scatter-add"}
    for name, sign in signs.items():
        assert sign in program(make_controls(TABLE, **{name: 0.5 if name != "top_k" else 2}))
        assert sign not in program(OFF)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("greedy_end", [False, True])
def test_greedy_at_temperature_zero_and_at_the_end_if_asked(temperature, greedy_end):
    controls = make_controls(TABLE, temperature=temperature, greedy_end=greedy_end)
    for s in (0.0, 1e-5, 0.5, 1.0):
        expected = temperature == 0 or (greedy_end and s == 0)
        assert bool(controls.greedy(s)) == bool(jax.jit(Controls.greedy)(controls, s)) == expected
    plain = Controls(temperature=temperature, greedy_end=greedy_end)
    assert bool(plain.greedy(0.0)) == (temperature == 0 or greedy_end)
    logits = jnp.float32([1.0, -3.0])
    np.testing.assert_array_equal(controls.sharpen(logits), logits / (temperature or 1.0))


TRACES = []


@jax.jit
def choices(controls, logits):
    TRACES.append(1)
    rows = jnp.broadcast_to(logits, (10_000, toys.V))
    return controls.choose(toys.key(0), rows, jnp.zeros((10_000, 6), jnp.int32), 2)


LIMITS = ({}, {"top_k": 4}, {"top_p": 0.6}, {"top_k": 7, "top_p": 0.5})


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_a_choice_is_drawn_from_what_the_controls_leave(limits):
    """False alarm 1e-6 each. Temperature first: it moves which tokens make up top_p; what is forbidden has no share.
    One compilation for all values."""
    logits = np.float32(np.random.default_rng(8).standard_normal(toys.V))
    some = np.isin(np.arange(toys.V), [0, int(logits.argmax())])
    before = len(TRACES)
    for forbidden, temperature in itertools.product((some, np.zeros_like(some)), (0.5, 2.0)):
        controls = make_controls(TABLE, **limits, temperature=temperature, forbidden_V=jnp.asarray(forbidden))
        weights = np.where(forbidden, -np.inf, np.float64(logits) / temperature)
        kept, margin = keep_reference(weights, limits.get("top_k"), limits.get("top_p"))
        assert margin > 1e-5
        # An end is of the reverse process: the chain rule has none.
        controls = dataclasses.replace(controls, greedy_end=jnp.array(temperature == 2))
        toys.assert_frequencies(choices(controls, logits), scipy.special.softmax(np.where(kept, weights, -np.inf)))
        likeliest = choices(dataclasses.replace(controls, temperature=jnp.float32(0)), logits)
        assert (likeliest == np.where(forbidden, -np.inf, logits).argmax()).all()
    assert len(TRACES) == before + 1
