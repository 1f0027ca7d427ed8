"""What a caller hands in with a wrong shape or dtype is told, and not broadcast along another axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import Vocabulary, make_kernel

X = jnp.zeros((4, 4), int)
T = jnp.full(4, 0.5)
W = jnp.ones((4, V)) / V
CALLS = {
    "corrupt": lambda kernel, x, t: kernel.corrupt(toys.key(0), x, t),
    "prob": lambda kernel, x, t: kernel.prob(x, x, t),
    "log_prob": lambda kernel, x, t: kernel.log_prob(x, x, t),
    "likelihoods": lambda kernel, x, t: kernel.likelihoods(x, t),
    "arrival_rate": lambda kernel, x, t: kernel.arrival_rate(x, x, t),
    "reverse": lambda kernel, x, t: kernel.reverse(x, t).total,
    "log_evidence": lambda kernel, x, t: kernel.log_evidence(jnp.zeros((*x.shape, V)), x, t),
    "reverse_step": lambda kernel, x, t: kernel.reverse_step(toys.key(0), x, x, t, t),
    "reverse_leap": lambda kernel, x, t: kernel.reverse_leap(toys.key(0), x, x, t, t),
}


@pytest.mark.parametrize("name", ["semdlm_plus", "semantic_softmax"])
@pytest.mark.parametrize("call", CALLS)
def test_times_without_an_axis_for_each_of_the_tokens_are_refused(call, name):
    """[4] against [4, 4] would be aligned with the positions; [4, 1] says which axis is meant, eagerly and in jit."""
    kernel = TOYS[name].build()
    for function in (CALLS[call], jax.jit(CALLS[call])):
        with pytest.raises(UserError, match=r"t is float32 \[4\] and x[0t] is int32 \[4, 4\]: .*t\[:, None\]"):
            jax.eval_shape(function, kernel, X, T)
    assert jax.eval_shape(CALLS[call], kernel, X, T[:, None]).shape[:2] == (4, 4)


@pytest.mark.parametrize(
    ("told", "call"),
    [
        (r"x0 is float32 \[4, 4\]: give token ids", lambda kernel: kernel.corrupt(toys.key(0), X * 1.0, 0.5)),
        (r"xt is float32 \[4, 4\]: give token ids", lambda kernel: kernel.likelihoods(X * 1.0, 0.5)),
        (r"t is float32 \[2, 1\] and x0", lambda kernel: kernel.corrupt(toys.key(0), X, jnp.full((2, 1), 0.5))),
        (r"t is float32 \[3, 4, 4\] and x0", lambda kernel: kernel.corrupt(toys.key(0), X, jnp.full((3, 4, 4), 0.5))),
        (r"t is int32 \[4, 1\]: give times", lambda kernel: kernel.corrupt(toys.key(0), X, X[:, :1])),
        (rf"w is float32 \[4, {V - 1}\]: it must be", lambda kernel: kernel.push_forward(W[:, 1:], 0.5)),
        (rf"t is float32 \[2\] and w is float32 \[4, {V}\]", lambda kernel: kernel.push_forward(W, T[:2])),
    ],
)
def test_other_wrong_shapes_and_kinds_are_refused(told, call):
    with pytest.raises(UserError, match=told):
        call(TOYS["semdlm_plus"].build())


def test_a_number_is_a_time():
    """And gives what an array of it gives, whether float or 0 or 1."""
    kernel = TOYS["semdlm_plus"].build()
    for t in (0.25, 1, np.float64(0.5)):
        expected = kernel.corrupt(toys.key(0), X, jnp.full(X.shape, t, jnp.float32))
        np.testing.assert_array_equal(kernel.corrupt(toys.key(0), np.asarray(X), t), expected)
        np.testing.assert_array_equal(kernel.prob(X, X, t), kernel.prob(X, X, jnp.full(X.shape, t, jnp.float32)))


def _schedule(kernel):
    if hasattr(kernel, "process"):
        return kernel.process.processes[0].schedule
    return getattr(kernel, "branches", kernel).schedule


OF_TIMES = {
    "alpha": lambda kernel, t: kernel.alpha(t),
    "alpha_dot": lambda kernel, t: kernel.alpha_dot(t),
    "noise_prob": lambda kernel, t: kernel.noise_prob(X, X, t),
    "sample_noise": lambda kernel, t: kernel.sample_noise(toys.key(0), X, t),
    "noise_probs": lambda kernel, t: kernel.noise_probs(X, t),
    "noise_matvec": lambda kernel, t: kernel.noise_matvec(W[:, None], t),
    "noise_matvec_at": lambda kernel, t: kernel.noise_matvec_at(W[:, None], X[:, None], t=t),
    "prior_probs": lambda kernel, t: kernel.prior_probs(t),
    "add_log_likelihoods": lambda kernel, t: kernel.add_log_likelihoods(jnp.zeros((4, 4, V)), X, t),
    "reverse": lambda kernel, t: kernel.reverse(X, t).total,
    "reverse_step": lambda kernel, t: kernel.reverse(X, t, t / 2).stay,
    "origins": lambda kernel, t: kernel.origins(X, X, t).kept if hasattr(kernel, "origins") else t,
    "reverse_step of a chain": lambda kernel, t: kernel.reverse(X, t, t / 2).true(X),
    "leap": lambda kernel, t: kernel.reverse_leap(toys.key(0), X, X, t, t / 2),
    "kept_weight": lambda kernel, t: kernel.kept_weight(t) if kernel.kept_weight else t,
    "schedule": lambda kernel, t: _schedule(kernel).alpha_dot(t),
}


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    "name", ["hybrid", "semdlm_plus", "semantic_softmax", "nested_mask", "mask_rates", "two_digits"]
)
def test_a_number_is_a_time_of_every_method(name):
    kernel = TOYS[name].build()

    def found(t):
        return {call: function(kernel, t) for call, function in OF_TIMES.items()}

    expected, numbers = jax.jit(lambda: found(jnp.full((4, 1), 0.5)))(), jax.jit(lambda: found(0.5))()
    for call, values in numbers.items():
        wanted = expected[call]
        np.testing.assert_allclose(np.broadcast_to(values, wanted.shape), wanted, rtol=1e-5, err_msg=call)
    for t in (np.float64(0.5), jnp.array(0.5)):
        jax.eval_shape(lambda t=t: found(t))


@pytest.mark.parametrize(
    ("t", "told"), [(jnp.array(1), r"t is int32 \[\]: give times"), ("late", "t is 'late': give a number from 0 to 1")]
)
def test_what_is_no_time_is_refused_by_every_method(t, told):
    for call in ("alpha", "noise_matvec", "reverse", "schedule"):
        with pytest.raises(UserError, match=told):
            OF_TIMES[call](TOYS["hybrid"].build(), t)


@pytest.mark.parametrize("name", ["semdlm_plus", "semantic_knn", "absorbing"])
def test_counts_are_carried_forward_as_other_weights(name):
    """As the dense kernel does it, to the rounding of float32."""
    counts = np.arange(V)
    found = TOYS[name].build().push_forward(counts, 0.5)
    np.testing.assert_allclose(found, counts @ TOYS[name].matrix(0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x0": X + 99}, "x0 holds .*: give token ids from 0 to 4"),
        ({"x0": X - 9}, "x0 holds -9: give token ids from 0 to 4"),
        ({"t": 2.0}, "t holds 2: give times from 0 to 1"),
        ({"t": np.array([[0.5], [np.nan]])}, "t holds nan"),
        ({"key": 0}, r"key is 0: give one random key, as jax.random.key\(0\)"),
        ({"key": jax.random.split(jax.random.key(0))}, "give one random key"),
    ],
)
def test_values_that_are_known_are_checked(change, words):
    """Under jit they are not known; a key of either form is one."""
    kernel = make_kernel("uniform", Vocabulary(5, 4))
    given = {"key": jax.random.PRNGKey(0), "x0": X, "t": 0.5}
    assert kernel.corrupt(**given).shape == jax.jit(kernel.corrupt)(**given | {"x0": X + 9}).shape
    with pytest.raises(UserError, match=words):
        kernel.corrupt(**given | change)
