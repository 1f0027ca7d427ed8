"""From logits to p(x_0 | x_t) against dense softmaxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import MASK, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import NeighborTable, Vocabulary, make_kernel
from semdlm_jax.objectives import make_objective, make_posterior

LIKELIHOODS = ("direct", "bayes")  # `score` has its own tests among the losses

TIMES = np.array([1e-3, 0.31, 0.97])
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
LOGITS = 3 * np.random.default_rng(0).standard_normal((len(TIMES), V, V))


def weighted(toy, parameterization, t):
    """[V, V] by (x_t, k): what softmax weights are multiplied with before they are normalized."""
    likelihood = toy.matrix(t).T
    weight = likelihood if parameterization == "bayes" else 1.0 * (likelihood > 0)
    if toy.mask_id is not None:
        weight[:, toy.mask_id] = 0
    return weight


def dense(toy, parameterization, logits, t, unchanged_weight=1.0):
    """[V, V] by (x_t, k); rows of an x_t that no text reaches are NaN."""
    joint = np.exp(logits) * weighted(toy, parameterization, t)
    with np.errstate(invalid="ignore"):
        posterior = joint / joint.sum(1, keepdims=True)
        posterior = posterior / np.where(np.eye(V, dtype=bool), unchanged_weight, 1)
        return posterior / posterior.sum(1, keepdims=True)


@every_toy
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
@pytest.mark.parametrize("unchanged_weight", [1.0, 0.1])
def test_posteriors(float64, toy, parameterization, unchanged_weight):
    xt = jnp.broadcast_to(jnp.arange(V), (len(TIMES), V))
    t = jnp.asarray(TIMES)[:, None]
    got = np.exp(make_posterior(parameterization, unchanged_weight).log_probs(toy.build(), jnp.asarray(LOGITS), xt, t))
    for t, logits, rows in zip(TIMES, LOGITS, got, strict=True):
        expected = dense(toy, parameterization, logits, t, unchanged_weight)
        real = np.isfinite(expected[:, 0])
        assert real.any()
        np.testing.assert_allclose(rows[real], expected[real], rtol=1e-9 + 10 * toy.rtol, atol=1e-300)


@pytest.mark.parametrize("parameterization", LIKELIHOODS)
def test_absorbing_is_subs(parameterization):
    """Zero mask probability and the softmax of the others at a mask; visible tokens carried over; bfloat16 logits."""
    logits = jnp.asarray(LOGITS[0], jnp.bfloat16)
    posterior = make_posterior(parameterization).log_probs(
        TOYS["absorbing"].build(), logits, jnp.arange(V), jnp.array([0.4])
    )
    assert posterior.dtype == jnp.float32
    probs = np.exp(np.asarray(posterior))
    expected = np.exp(np.asarray(logits[MASK], float)) * (np.arange(V) != MASK)
    np.testing.assert_allclose(probs[MASK], expected / expected.sum(), rtol=1e-5)
    assert probs[MASK, MASK] == 0
    visible = np.arange(V) != MASK
    np.testing.assert_array_equal(probs[visible], np.eye(V)[visible])


@pytest.mark.parametrize("kernel", ["absorbing", "uniform", "semdlm_plus"])
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
def test_a_logit_that_is_no_number_is_not_hidden(kernel, parameterization):
    """Else a diverged network would get a finite bound: in whole vectors of rows, as here, XLA's maximum on a CPU may
    drop NaN."""
    size, shape = 64, (4, 16)
    ring = (np.arange(size)[:, None] + [1, 2, 3]) % size
    table = NeighborTable.from_lists(ring, np.ones(ring.shape))
    kernel = make_kernel(kernel, Vocabulary(size, size - 1, table=table, unigram=np.ones(size)))
    posterior, xt, t = make_posterior(parameterization), jnp.broadcast_to(jnp.arange(16), shape), jnp.full(shape, 0.97)
    log_probs = jax.jit(lambda logits: posterior.log_probs(kernel, logits, xt, t))
    cross_entropy = jax.jit(lambda logits: posterior.cross_entropy(kernel, logits, xt[..., ::-1], xt, t))
    bad = jnp.put_along_axis(jnp.zeros((*shape, size)), xt[..., None], jnp.nan, axis=-1, inplace=False)
    for logits in (bad, jnp.full_like(bad, jnp.nan)):
        assert np.isnan(log_probs(logits)).any(-1).all() and np.isnan(cross_entropy(logits)).all()


@every_toy
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
def test_cross_entropy_and_its_gradient(float64, toy, parameterization):
    """The value is -log p(x0); the gradient in the logits is p - onehot(x0)."""
    kernel, posterior = toy.build(), make_posterior(parameterization)
    x0, xt = (jnp.broadcast_to(x, (len(TIMES), V, V)) for x in toys.pairs())
    t = jnp.asarray(TIMES)[:, None, None]
    logits = jnp.broadcast_to(jnp.asarray(LOGITS)[:, None], (len(TIMES), V, V, V))

    def total(logits):
        values = posterior.cross_entropy(kernel, logits, x0, xt, t)
        return jnp.sum(values), values

    (_, values), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(logits)
    values, gradients = np.asarray(values), np.asarray(gradients)
    for index, t in enumerate(TIMES):
        occurs = toy.matrix(t) > 0
        if toy.mask_id is not None:
            occurs[toy.mask_id] = False
        expected = dense(toy, parameterization, LOGITS[index], t)
        for x0, xt in np.argwhere(occurs):
            loose = 1e-9 + 10 * toy.rtol
            assert values[index, x0, xt] == pytest.approx(-np.log(expected[xt, x0]), rel=loose, abs=loose)
            np.testing.assert_allclose(gradients[index, x0, xt], expected[xt] - np.eye(V)[x0], atol=loose)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("toy", [TOYS[name] for name in ("absorbing", "semdlm_plus", "gapped", "semantic_mask")])
def test_float32_gradients_of_the_cross_entropy_are_finite(toy):
    """Even for pairs that cannot occur, such as padding that holds the mask, and for logits far apart."""
    kernel, posterior = toy.build(), make_posterior()
    x0, xt = toys.pairs()
    logits = jnp.broadcast_to(30 * jnp.asarray(LOGITS[0], jnp.float32), (V, V, V))

    def total(logits, t):
        return jnp.sum(jnp.where(toy.matrix(0.5) > 0, posterior.cross_entropy(kernel, logits, x0, xt, t), 0))

    gradient = jax.jit(jax.grad(total))
    for t in (1e-3, 1 - 1e-5):
        assert np.isfinite(gradient(logits, jnp.full((V, V), t))).all()


def test_refusals():
    with pytest.raises(UserError, match="unknown parameterization 'bays'.*'bayes'"):
        make_posterior("bays")
    for make in (make_posterior, make_objective):
        with pytest.raises(
            UserError, match=f"{make.__name__} has no argument 'parameterisation': .* parameterization now"
        ):
            make(parameterisation="bayes")
    for unchanged_weight in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="lambda_same must be above 0"):
            make_posterior("bayes", unchanged_weight)


WEIGHTED = pytest.mark.parametrize("unchanged_weight", [1.0, 0.1])


@every_toy
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
@WEIGHTED
def test_weights_are_the_posterior_up_to_a_factor(float64, toy, parameterization, unchanged_weight):
    """What a draw needs: normalized, they are the definition, and finite wherever something is possible."""
    xt = jnp.broadcast_to(jnp.arange(V), (len(TIMES), V))
    t = jnp.asarray(TIMES)[:, None]
    weights = make_posterior(parameterization, unchanged_weight).log_weights(toy.build(), jnp.asarray(LOGITS), xt, t)
    assert np.isfinite(weights).all()
    for t, logits, rows in zip(TIMES, LOGITS, np.asarray(jax.nn.softmax(weights, axis=-1)), strict=True):
        expected = dense(toy, parameterization, logits, t, unchanged_weight)
        real = np.isfinite(expected[:, 0])
        np.testing.assert_allclose(rows[real], expected[real], rtol=1e-9 + 10 * toy.rtol, atol=1e-300)


def without_xt(toy, posterior, t):
    """[V, V] by (x_t, k): posteriors with what x_t says of itself divided out, normalized: x_theta. NaN where no text
    reaches x_t."""
    q = toy.matrix(t).T
    plain = np.where(q > 0, posterior / np.where(q > 0, q, 1), 0)
    with np.errstate(invalid="ignore"):
        return plain / plain.sum(1, keepdims=True)


@every_toy
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
@WEIGHTED
def test_x_theta_is_the_posterior_without_what_xt_says(float64, toy, parameterization, unchanged_weight):
    """And nothing where x_t cannot come from a token. `bayes`: the network's own softmax, untilted, as far as that."""
    xt = jnp.broadcast_to(jnp.arange(V), (len(TIMES), V))
    t = jnp.asarray(TIMES)[:, None]
    x_theta = make_posterior(parameterization, unchanged_weight).x_theta(toy.build(), jnp.asarray(LOGITS), xt, t)
    for t, logits, rows in zip(TIMES, LOGITS, np.asarray(jax.nn.softmax(x_theta, axis=-1)), strict=True):
        expected = without_xt(toy, dense(toy, parameterization, logits, t, unchanged_weight), t)
        real = np.isfinite(expected[:, 0])
        np.testing.assert_allclose(rows[real], expected[real], rtol=1e-9 + 30 * toy.rtol, atol=1e-300)
        if parameterization == "bayes" and unchanged_weight == 1.0:
            plain = np.where(weighted(toy, "direct", t) > 0, np.exp(logits), 0)
            plain = plain[real] / plain[real].sum(1, keepdims=True)
            np.testing.assert_allclose(rows[real], plain, rtol=1e-9 + 30 * toy.rtol, atol=1e-300)


@pytest.mark.parametrize("name", ["uniform", "hybrid", "semdlm_plus", "semantic_softmax"])
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
def test_x_theta_of_independent_positions_is_the_data(float64, name, parameterization):
    """Whatever x_t is, where it can come from every token: p(x0 | the others) knows nothing of it."""
    toy, t = TOYS[name], 0.31
    exact = toys.LOG_P_DATA if parameterization == "bayes" else toys.log(toy.bayes(t))
    logits = jnp.broadcast_to(jnp.asarray(exact), (V, V))
    x_theta = make_posterior(parameterization).x_theta(toy.build(), logits, jnp.arange(V), jnp.full(V, t))
    everywhere = (toy.matrix(t)[toys.P_DATA > 0] > 0).all(0)
    assert everywhere.sum() >= 1 and (name == "hybrid" or everywhere.all())
    rows = np.asarray(jax.nn.softmax(x_theta, axis=-1))[everywhere]
    np.testing.assert_allclose(rows, np.tile(toys.P_DATA, (len(rows), 1)), rtol=1e-6, atol=1e-12)


JUMPING = ("absorbing", "uniform", "unigram", "absorbing_cosine", "uniform_geometric")
PAIRS = [(0.97, 0.5), (0.31, 0.3), (0.31, 0.31), (0.31, 1e-3), (0.5, 0.0)]


@pytest.mark.parametrize("name", JUMPING)
@pytest.mark.parametrize("parameterization", LIKELIHOODS)
@WEIGHTED
def test_scores_are_ratios_of_x_theta_at_two_times(float64, name, parameterization, unchanged_weight):
    """log q_s(y | x_theta) / q_t(x_t | x_theta) by enumeration, to 1e-9; 0 at x_t where s = t."""
    toy, xt = TOYS[name], jnp.arange(V)
    for t, s in PAIRS:
        posterior = make_posterior(parameterization, unchanged_weight)
        times = jnp.full(V, t), None if s == t else jnp.full(V, s)
        got = np.asarray(posterior.log_scores(toy.build(), jnp.asarray(LOGITS[1]), xt, *times))
        x_theta = without_xt(toy, dense(toy, parameterization, LOGITS[1], t, unchanged_weight), t)
        before, now = x_theta @ toy.matrix(s), np.diagonal(x_theta @ toy.matrix(t))
        real = np.isfinite(now)
        assert real.sum() >= 2
        np.testing.assert_allclose(np.exp(got)[real], (before / now[:, None])[real], rtol=1e-9, atol=1e-12)
        if s == t:
            np.testing.assert_allclose(np.diagonal(got)[real], 0, atol=1e-9)


@pytest.mark.parametrize("name", JUMPING)
def test_a_score_model_knows_the_scores_of_earlier_times(float64, name):
    """From exact scores at t those at s < t, to 1e-6; at s = t they are the network's own, with 0 at x_t."""
    toy, xt, posterior = TOYS[name], jnp.arange(V), make_posterior("score")
    for t, s in PAIRS:
        now, before = toys.P_DATA @ toy.matrix(t), toys.P_DATA @ toy.matrix(s)
        real = now > 0
        logits = toys.log(now) - toys.log(now)[:, None]
        if toy.mask_id is not None:
            logits = logits - np.log(toy.alpha(t) / (1 - toy.alpha(t)) / (V - 1))
        got = posterior.log_scores(toy.build(), jnp.asarray(logits), xt, jnp.full(V, t), jnp.full(V, s))
        np.testing.assert_allclose(np.exp(got)[real], (before / now[:, None].clip(1e-300))[real], rtol=1e-6, atol=1e-9)
        noise = LOGITS[1]
        own = np.asarray(posterior.log_scores(toy.build(), jnp.asarray(noise), xt, jnp.full(V, t)))
        expected = np.log(toy.alpha(t) / (1 - toy.alpha(t)) / (V - 1)) if toy.mask_id is not None else 0
        off = ~np.eye(V, dtype=bool)
        if toy.mask_id is not None:
            off[:, MASK] = False
        np.testing.assert_allclose(own[off], (noise + expected)[off], rtol=1e-9)
        np.testing.assert_array_equal(np.diagonal(own), 0)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_scores_are_finite_from_the_start(name):
    """t = 1, where nothing is kept: no NaN, no mask for text, and of masks what is said of the text, to 1e-3."""
    kernel, posterior = TOYS[name].build(), make_posterior("score")
    arguments = jnp.float32(LOGITS[1]), jnp.arange(V), jnp.ones(V)
    for s in (0.999, 0.5, 0.0):
        scores = np.exp(posterior.log_scores(kernel, *arguments, jnp.full(V, s)))
        assert np.isfinite(scores).all() and (scores.sum(1) > 0).all()
        if name == "absorbing":
            said = (1 - s) * np.exp(LOGITS[1][MASK]) / (V - 1)
            np.testing.assert_allclose(np.delete(scores[MASK], MASK), np.delete(said, MASK), rtol=1e-3)
    probs = np.exp(posterior.log_probs(kernel, *arguments))
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    if name == "absorbing":
        expected = np.where(np.arange(V) == MASK, 0, np.exp(LOGITS[1][MASK]))
        np.testing.assert_allclose(probs[MASK], expected / expected.sum(), rtol=1e-3)


@pytest.mark.parametrize("parameterization", ["bayes", "score"])
def test_a_number_is_a_time(parameterization):
    """Of every method of a posterior, as an array of it is."""
    kernel, posterior = TOYS["absorbing"].build(), make_posterior(parameterization, unchanged_weight=0.5)
    xt = jnp.arange(V)

    def found(t):
        arguments = kernel, jnp.asarray(LOGITS[0]), xt
        losses = posterior.cross_entropy(kernel, arguments[1], jnp.zeros(V, int), xt, t)
        return losses, posterior.log_probs(*arguments, t), posterior.log_scores(*arguments, t, s=t / 2)

    for one, other in zip(jax.jit(lambda: found(0.5))(), jax.jit(lambda: found(jnp.full(V, 0.5)))(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
