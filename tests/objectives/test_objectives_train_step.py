"""The training step: what its randomness is of, what attention sees, and how microbatches add up."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_objectives import objective

from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import NoisyBatch, Stages
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.runtime.state import create_state
from semdlm_jax.train_step import make_train_step

B, L = 12, 6
MASK = np.arange(L) < np.array([L, 4, 1] * 4)[:, None]  # rows of three lengths

pytestmark = pytest.mark.usefixtures("quick_compile")


def build(stages, denoiser, params, *, seed=0, microbatches=3, padded=True):
    """A function of batches of tokens: (metrics of each step, parameters at the end), by gradient descent of rate 1."""
    mesh, optimizer = make_mesh(1, 1, 1, jax.devices()[:1]), optax.sgd(1.0)
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def everywhere(tree):
        return jax.tree.map(lambda _: placed, tree)

    def start():
        return create_state(lambda _: params, optimizer, jax.random.key(0), everywhere)

    how = {"ema_decay": 0.5, "microbatches": microbatches, "seed": seed, "mesh": mesh, "padded": padded}
    step = make_train_step(stages, denoiser, optimizer, state_shardings=everywhere(start()), **how)

    def run(batches):
        state, metrics = start(), []
        for tokens in batches:
            state, shown = step(state, jnp.asarray(tokens), jnp.asarray(MASK))
            metrics.append({name: float(value) for name, value in shown.items()})
        return metrics, jax.device_get(state.params)

    return run


class Watched:
    """A network and an objective that note every key they are given. A feature is its token times the sum of
    the parameters."""

    dropout = 0.1

    def __init__(self):
        self.keys = []

    def note(self, **keys):
        for what, key in keys.items():
            data = jax.random.key_data(key)
            jax.debug.callback(lambda data, what=what: self.keys.append((what, *data.tolist())), data)

    def features(self, params, xt_BxL, t_B, *, lengths_B, dropout_key):
        self.note(dropout=dropout_key)
        return jnp.sum(params["scale"]) * xt_BxL

    def logits(self, params, features):
        return features

    def corrupt(self, key, x0_BxL, mask_BxL, step):
        self.note(noise=key)
        # What a corruption splits its key into, and that again: a microbatch's keys may be none of these either.
        for child in jax.random.split(key):
            self.note(time_or_noise=child)
            for grandchild in jax.random.split(child):
                self.note(below=grandchild)
        return NoisyBatch(x0_BxL, x0_BxL, jnp.zeros(len(x0_BxL)), mask_BxL)

    def sums(self, readout, features, batch, step, key):
        self.note(loss=key)
        return jnp.sum(readout(features) * batch.mask), jnp.sum(batch.mask, dtype=jnp.float32)


def keys_of(seed, steps=2):
    both = Watched()
    build(both, both, {"scale": jnp.ones(())}, seed=seed)([np.ones((B, L), np.int32)] * steps)
    jax.effects_barrier()
    return both.keys


def test_no_key_serves_twice():
    """Two steps of three microbatches under two seeds: noise by step, dropout and the loss's draws by microbatch."""
    found = keys_of(0) + keys_of(1)
    counts = collections.Counter(what for what, *_ in found)
    assert counts == {"noise": 4, "time_or_noise": 8, "below": 16, "dropout": 12, "loss": 12}
    assert len({key[1:] for key in found}) == len(found)
    assert sorted(keys_of(1)) == sorted(found[len(found) // 2 :])


@pytest.mark.parametrize("microbatches", [1, 2, 6])
def test_microbatches_are_one_mean_over_tokens(microbatches):
    """Rows of unequal lengths: a mean of the microbatches' means would be another number."""
    both, tokens = Watched(), np.arange(B * L, dtype=np.int32).reshape(B, L) ** 2
    params = {"scale": jnp.full(2, 1.5)}
    ((metrics,), after) = build(both, both, params, microbatches=microbatches)([tokens])
    mean = tokens[MASK].mean()
    assert metrics["loss"] == pytest.approx(3 * mean, rel=1e-6)
    assert metrics["grad_norm"] == pytest.approx(np.sqrt(2) * mean, rel=1e-6)
    np.testing.assert_allclose(after["scale"], 1.5 - mean, rtol=1e-6)


def test_a_batch_in_which_nothing_counts_teaches_nothing():
    """As under a loss of changed tokens alone where none has changed."""

    class Changed(Watched):
        def sums(self, readout, features, batch, step, key):
            counts = batch.x0 != batch.xt
            return jnp.sum(readout(features) * counts), jnp.sum(counts, dtype=jnp.float32)

    both = Changed()
    (metrics,), after = build(both, both, {"scale": jnp.ones(())})([np.ones((B, L), np.int32)])
    assert metrics == {"loss": 0, "grad_norm": 0} and after["scale"] == 1


def test_dropout_is_only_where_asked_for():
    class Dry(Watched):
        dropout = 0.0

        def features(self, params, xt_BxL, t_B, *, lengths_B, dropout_key):
            assert dropout_key is None
            np.testing.assert_array_equal(lengths_B.shape, [B // 3])
            return jnp.sum(params["scale"]) * xt_BxL

    both = Dry()
    build(both, both, {"scale": jnp.ones(())})([np.ones((B, L), np.int32)])


def test_padding_is_not_seen():
    """Other tokens behind the end of each row: the same loss and gradients to the bit, and others where they are seen.

    No zeros among the parameters: at initialization attention would add nothing, whatever it saw.
    """
    trained = objective("denoising", "absorbing")
    stages = Stages((trained,), (0,))
    denoiser = Denoiser(trained.kernel.vocab_size, width=8, layers=1, heads=1, condition_width=4)
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(denoiser.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * draw.standard_normal(x.shape), x.dtype), shapes)
    one = draw.integers(1, 5, (B, L))
    other = np.where(MASK, one, one + 1)
    for padded in (True, False):
        run = build(stages, denoiser, params, microbatches=1, padded=padded)
        (metrics, after), (same_metrics, same_after) = run([one]), run([other])
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after, same_after)
        if padded:
            assert metrics == same_metrics and max(jax.tree.leaves(moved)) == 0
        else:
            assert metrics != same_metrics and moved["blocks"]["attention"]["qkv"]["kernel"] > 1e-6


def test_clean_positions_are_marked_and_microbatches_agree():
    """Of three parts of a batch, the loss and gradients are those of the marked network on the whole batch, over its
    noisy positions."""
    trained = dataclasses.replace(objective("denoising", "uniform"), clean_rows=0.7)
    denoiser = Denoiser(trained.kernel.vocab_size, width=8, layers=1, heads=1, condition_width=4, clean_mark=True)
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(denoiser.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * draw.standard_normal(x.shape), x.dtype), shapes)
    params["embed"]["embedding"] /= 15  # of unit variance in the network
    params["clean_mark"] /= 15
    tokens = draw.integers(3, 9, (B, L))
    ((metrics,), after) = build(Stages((trained,), (0,)), denoiser, params)([tokens])

    @jax.jit
    def loss_and_step(params):
        key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
        batch = trained.corrupt(key, jnp.asarray(tokens), jnp.asarray(MASK))

        def loss(params):
            seen = {"lengths_B": MASK.sum(1), "clean_BxL": batch.clean}
            logits = denoiser.logits(params, denoiser.features(params, batch.xt, batch.t, **seen))
            losses = trained.posterior.cross_entropy(trained.kernel, logits, batch.x0, batch.xt, batch.t[:, None])
            return jnp.mean(losses, where=MASK & ~batch.clean)

        value, gradient = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(jnp.subtract, params, gradient)

    loss, wanted = loss_and_step(params)
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after, wanted)
    assert np.abs(after["clean_mark"] - params["clean_mark"]).max() > 1e-3
