"""At which positions logits are computed in training, and that the sums are those of all positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.kernels import GlobalPrior, Kernel, NeighborTable, Vocabulary, branches, make_kernel, schedules
from semdlm_jax.objectives import NoisyBatch, Objective, chunking, closed_forms, make_objective
from semdlm_jax.objectives.chunking import sum_losses
from semdlm_jax.objectives.losses import Denoising
from semdlm_jax.objectives.posterior import Bayes

VOCAB = 12


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """The toys have fewer positions than a part of a real batch."""
    monkeypatch.setattr(chunking, "LEAST", 1)


@pytest.mark.parametrize("chunk, wanted", [(5, None), (99, None), (0, 0.4), (5, 0.4), (8, 1.0), (0, 0.0)])
def test_sums_of_chunks_are_those_of_all_positions(float64, chunk, wanted):
    """Chunks that divide the length, do not, or exceed it; some positions, none or all: values and gradients."""
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.standard_normal((2, 24, 3)))
    ids, weights = jnp.asarray(rng.integers(0, 5, (2, 24))), jnp.asarray(rng.random((2, 24)))
    table = jnp.asarray(rng.standard_normal((3, 5)))
    has_loss = jnp.asarray(rng.random((2, 24)) < (1 if wanted is None else wanted))

    def function(logits, ids, weights, has_loss):
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), ids[..., None], -1)[..., 0]
        return jnp.sum(loss * weights * has_loss), jnp.sum(weights)

    def mean(features, table, chunk, mask):
        loss, weight = sum_losses(
            function, lambda f: 2 * f @ table, features, ids, weights, has_loss, chunk=chunk, wanted_BxL=mask
        )
        return loss**2 / weight

    def plainly(features, table):
        loss, weight = function(2 * features @ table, ids, weights, has_loss)
        return loss**2 / weight

    expected, slopes = jax.value_and_grad(plainly, argnums=(0, 1))(features, table)
    mask = None if wanted is None else has_loss
    found, of_chunks = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)), static_argnums=2)(features, table, chunk, mask)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for one, other in zip(of_chunks, slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


MASKED = [
    ("denoising", "bayes", {}),
    ("denoising", "direct", {"lambda_same": 0.5}),
    ("nelbo", "bayes", {}),
    ("nelbo", "bayes", {"noise_power": 1.0}),
    ("d3pm", "bayes", {"timesteps": 10, "ce_weight": 0.1}),
    ("score_entropy", "score", {}),
]


@pytest.mark.parametrize("name, parameterization, options", MASKED)
def test_under_masks_logits_are_computed_at_masks_alone(monkeypatch, name, parameterization, options):
    """With the loss and gradient of all positions, at no more positions than masks, up to whole chunks."""
    kernel = make_kernel("absorbing", Vocabulary(VOCAB, VOCAB - 1))
    trained = make_objective(name, kernel, parameterization, time_power=2.0, **options)
    rng = np.random.default_rng(0)
    x0 = jnp.asarray(rng.integers(0, VOCAB - 1, (4, 16)))
    given = trained.corrupt(jax.random.key(0), x0, jnp.asarray(rng.random((4, 16)) < 0.9))
    features = jnp.asarray(rng.standard_normal((4, 16, 3)), jnp.float32)
    table = jnp.asarray(rng.standard_normal((3, VOCAB)), jnp.float32)
    counted = []

    def mean(features, table):
        def readout(f):
            jax.debug.callback(lambda n: counted.append(int(n)), f[..., 0].size)
            return f @ table

        loss, weight = trained.sums(readout, features, given, jax.random.key(1))
        return loss / weight, weight

    def found():
        return jax.jit(jax.value_and_grad(lambda *x: mean(*x), argnums=(0, 1), has_aux=True))(features, table)

    (loss, weight), slopes = found()
    jax.effects_barrier()
    masks = int(np.sum((given.xt == VOCAB - 1) & given.mask))
    assert masks <= sum(counted) <= masks + 64 // 8
    monkeypatch.setattr(type(trained), "_only_at_masks", False)
    (whole, whole_weight), whole_slopes = found()
    np.testing.assert_allclose((loss, weight), (whole, whole_weight), rtol=1e-5)
    for one, other in zip(slopes, whole_slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_loss_of_ones_own_sees_all_positions():
    """Also one that takes over all but `terms` from a loss that is 0 at visible tokens."""

    class Mine(Denoising):
        def terms(self, objective, x):
            loss, weight = super().terms(objective, x)
            return loss + 1.0, weight

    kernel = make_kernel("absorbing", Vocabulary(VOCAB, VOCAB - 1))
    x0 = jnp.zeros((2, 8), int)
    features = jnp.zeros((2, 8, VOCAB))
    trained = Objective(kernel, Mine())
    batch = NoisyBatch(x0, jnp.full_like(x0, VOCAB - 1).at[:, :4].set(0), jnp.full(2, 0.5), jnp.ones((2, 8), bool))
    loss, _ = trained.sums(lambda f: f, features, batch, jax.random.key(0))
    expected, _ = Objective(kernel).sums(lambda f: f, features, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected + 16, rtol=1e-5)


class Blind(Bayes):
    """Reads nothing of x_t."""

    def log_weights(self, kernel, logits, xt, t):
        return logits

    def cross_entropy(self, kernel, logits, x0, xt, t):
        return super(Bayes, self).cross_entropy(kernel, logits, x0, xt, t)


class Doubled(Bayes):
    """The other weights' cross-entropy is not its own."""

    def cross_entropy(self, kernel, logits, x0, xt, t):
        return super().cross_entropy(kernel, logits, x0, xt, t) + 1.0


@pytest.mark.parametrize("reading, everywhere, at_masks", [(Blind(), np.log(11), 0), (Doubled(), 1, np.log(11))])
def test_a_parameterization_of_ones_own_sees_all_positions(reading, everywhere, at_masks):
    """Of flat logits, under masks at half of the positions."""
    kernel = make_kernel("absorbing", Vocabulary(VOCAB, VOCAB - 1))
    x0 = jnp.zeros((2, 8), int)
    batch = NoisyBatch(x0, jnp.full_like(x0, VOCAB - 1).at[:, :4].set(0), jnp.full(2, 0.5), jnp.ones((2, 8), bool))
    trained = Objective(kernel, parameterization=reading)
    loss, _ = trained.sums(lambda f: f, jnp.zeros((2, 8, VOCAB)), batch, jax.random.key(0))
    np.testing.assert_allclose(loss, 16 * everywhere + 8 * at_masks, rtol=1e-5)


def test_noise_of_masks_and_tokens_is_not_that_of_masks():
    """A kernel of one's own that only jumps, half to the mask: a visible token that changed has a loss."""
    probs = np.where(np.arange(VOCAB) == VOCAB - 1, 0.5, 0.5 / (VOCAB - 1))
    mixture = branches.Global(schedule=schedules.Linear())
    kernel = Kernel(NeighborTable.empty(VOCAB), GlobalPrior.from_probs(probs), mixture, VOCAB - 1)
    assert not kernel.only_masks and closed_forms.closed_form(kernel) is None
    batch = NoisyBatch(*(jnp.full((2, 8), k) for k in (0, 1)), jnp.full(2, 0.5), jnp.ones((2, 8), bool))
    loss, _ = Objective(kernel).sums(lambda f: f, jnp.zeros((2, 8, VOCAB)), batch, jax.random.key(0))
    noise = 0.5 * probs[0]  # to x_t from any token; x_t itself was kept besides
    np.testing.assert_allclose(loss, -16 * np.log(noise / (11 * noise + 0.5)), rtol=1e-5)


def test_few_positions_are_not_cut_into_parts_that_cost_more_than_they_leave_out(monkeypatch):
    monkeypatch.undo()
    wanted = jnp.arange(64).reshape(4, 16) < 9
    for least, sizes in ((chunking.LEAST, [64]), (16, [16])):  # one part has all that are wanted
        monkeypatch.setattr(chunking, "LEAST", least)
        counted = []

        def readout(f, counted=counted):
            jax.debug.callback(lambda n: counted.append(int(n)), f[..., 0].size)
            return f

        function = lambda logits, wanted: (jnp.sum(logits[..., 0] * wanted), jnp.sum(wanted * 1.0))  # noqa: E731
        sum_losses(function, readout, jnp.ones((4, 16, 3)), wanted, wanted_BxL=wanted)
        jax.effects_barrier()
        assert counted == sizes


def test_a_length_without_divisors_is_not_cut_into_single_positions(float64):
    """53 positions, a prime number: logits of all at once."""
    seen, ids, wanted = [], jnp.arange(53)[None] % 3, jnp.arange(53)[None] % 2 == 0

    def readout(features):
        seen.append(features.shape)
        return features

    def function(logits, ids, wanted):
        return jnp.sum(jnp.take_along_axis(logits, ids[..., None], -1)[..., 0] * wanted), jnp.sum(wanted * 1.0)

    features = jnp.asarray(np.random.default_rng(0).random((1, 53, 3)))
    found = sum_losses(function, readout, features, ids, wanted, wanted_BxL=wanted)
    np.testing.assert_allclose(found, function(features, ids, wanted), rtol=1e-12)
    assert seen == [(1, 53, 3)]
