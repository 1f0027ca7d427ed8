"""Coins first: the network is asked only where a step may change something, and the law of the step is the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_pairs
import toys
from test_samplers_loop import READER, TABLE
from test_samplers_methods import padded
from toy_samplers import INDEPENDENT, plan_of, sample
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.samplers import Method, Network, Plan, make_controls, make_method, proposing
from semdlm_jax.samplers.methods import Ancestral, StepContext

pytestmark = pytest.mark.usefixtures("quick_compile")

N = 40_000


def one_step(t, s, length):
    return Plan(*(np.float32([x]) for x in (t, s, 0)), *(np.int32([x]) for x in (0, length)))


def law_of(method, toy, t, s):
    """[V, V] by x_t and x_s, of an exact denoiser of independent positions."""
    bayes = toy.bayes(t)
    if method == "blockwise":
        noise_t, noise_s = 1 - toy.alpha(t), 1 - toy.alpha(s)
        chance = (noise_t - noise_s) / noise_t * (1 - np.diag(bayes))[:, None]
        step = chance * (bayes @ toy.matrix(s)) + (1 - chance) * np.eye(V)
    elif method == "remdm_cap":
        sigma = min(0.3, s / (1 - t))
        write = (t - s + sigma * (1 - t)) / t * (np.arange(V) == MASK)[:, None]
        stays = np.where(np.arange(V) == MASK, 1, 1 - sigma)[:, None] - write
        step = write * bayes + stays * np.eye(V) + (1 - stays - write) * toys.AT_MASK
    else:
        step = np.einsum("xk,kxy->xy", bayes, toy.reverse(t, s) if method == "ancestral" else toy.leap(t, s))
    return (P_DATA @ toy.matrix(t))[:, None] * step


LAWS = [
    *(("ancestral", name) for name in ("absorbing", "uniform", "hybrid", "semdlm_plus", "nested_deep")),
    *(("ancestral", name) for name in ("nested_mask", "mask_rates", "practical_unfinished")),
    *(("tau_leaping", name) for name in ("absorbing_cosine", "hybrid", "nested", "mask_rates")),
    *(("blockwise", name) for name in ("absorbing", "semantic_softmax")),
    ("remdm_cap", "absorbing"),
]


@pytest.mark.parametrize(("method", "name"), LAWS)
def test_a_step_has_its_law(method, name):
    """Of pairs (x_t, x_s), as enumerated, from tokens of the law at t, beside given ones. False alarm 1e-6 each."""
    toy, rng = TOYS[name], np.random.default_rng(3)
    method_of = make_method(method, **({"eta": 0.3} if method == "remdm_cap" else {}))
    given = np.broadcast_to(np.arange(4) == 2, (N // 4, 4))
    assert may_change(method_of, toy.build()) is not None
    for t, s in ((0.62, 0.5), (0.97, 0.9)):
        marginal = P_DATA @ toy.matrix(t)
        xt = rng.choice(V, given.shape, p=marginal / marginal.sum())
        initial = jnp.asarray(xt, jnp.int32)
        text, _ = sample(
            toy.build(), method_of, given.shape, one_step(t, s, 4), initial=initial, given=xt, is_given=given
        )
        np.testing.assert_array_equal(text[given], xt[given])
        law = law_of(method, toy, t, s)
        law = np.where(law > 1e-12, law, 0)
        toys.assert_frequencies((V * xt + text)[~given], law.ravel() / law.sum())


@pytest.mark.parametrize("share", [1, 32])
@pytest.mark.parametrize(("method", "name"), [("ancestral", "uniform"), ("tau_leaping", "semdlm_plus")])
def test_positions_that_depend_on_each_other(method, name, share, monkeypatch):
    """The law after 3 of 8 steps and that of the text, as enumerated: with all chosen positions of a row at once, and
    with one at a time. False alarm 1e-6 each."""
    monkeypatch.setattr(proposing, "CHOSEN_SHARE", share)
    toy = TOYS[name]
    grid = plan_of(toy.build(), make_method(method), 8, 2, t_min=1e-4)
    network = toy_pairs.network(toy.build())
    laws = [*toy_pairs.laws(toy, method, grid)]
    for steps in (3, 8):
        plan = padded(Plan(*(x[:steps] for x in grid)), 8)
        text, _ = sample(name, method, (N, 2), plan, network=network, key=steps)
        toys.assert_frequencies(V * text[:, 0] + text[:, 1], laws[steps - 1].ravel())


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("ancestral", "semdlm_plus"),
        ("tau_leaping", "hybrid"),
        ("remdm_conf", "absorbing"),
        ("gidd_correct", "nested"),
    ],
)
def test_without_chance_in_the_drafts_the_text_is_that_of_full_steps(method, name):
    """Recorded, every step is a full one, whose coins are the same. With strides, given tokens, padding, a penalty, and
    chunks of one position a row."""
    rng, lengths = np.random.default_rng(4), np.array([16, 3, 7, 12, 1, 9])
    is_given = (rng.random((6, 16)) < 0.3) | (np.arange(16) >= lengths[:, None])
    given = rng.integers(0, V - 1, (6, 16))
    options = {"gidd_correct": {"corrections": 3, "at_once": 2}}.get(method, {})
    controls = make_controls(TABLE, temperature=0, lambda_freq=0.5, lambda_sem=0.5)
    same = {"strides": 2, "steps": 12, "options": options, "controls": controls, "network": READER}
    same |= {"given": given, "is_given": is_given, "lengths": lengths, "corrector": (1, 0.3)}
    coins_first, _ = sample(name, method, (6, 16), **same)
    full, _ = sample(name, method, (6, 16), **same, recorded=1)
    np.testing.assert_array_equal(coins_first, full)
    np.testing.assert_array_equal(coins_first[is_given], given[is_given])


def test_the_network_is_asked_only_where_coins_fall():
    """Masks of 4 positions in 64 steps: one evaluation for each step that writes, so 4 at most, and one row of logits
    for each mask. Of all positions where a trajectory is recorded."""
    asked = []

    def count(shape):
        jax.debug.callback(lambda: asked.append(shape))

    network = Network(
        lambda *seen: (count("features"), INDEPENDENT.features(*seen))[1],
        lambda features: (count(features.shape), INDEPENDENT.logits(features))[1],
    )
    text, _ = sample("absorbing", "ancestral", (1, 4), steps=64, network=network, key=1)
    jax.effects_barrier()
    assert 1 <= asked.count("features") <= 4 == asked.count((1, 1)) and (text != MASK).all()
    asked.clear()
    sample("absorbing", "ancestral", (1, 4), steps=64, network=network, key=1, recorded=1)
    jax.effects_barrier()
    assert asked.count("features") == asked.count((1, 4)) == 64


def may_change(method, kernel):
    context = StepContext(*map(jnp.float32, (0.5, 0.4, 0)), jnp.ones((2, 3), bool))
    return method.chosen(kernel, toys.key(0), jnp.zeros((2, 3), jnp.int32), context, method.init(jnp.zeros((2, 3))))


def test_what_a_class_changes_without_a_word_is_not_guessed():
    """A step of one's own, or another process, may change any position."""

    @dataclasses.dataclass(frozen=True)
    class Impatient(Ancestral):
        def step(self, kernel, key, xt, proposal, context, state):
            return super().step(kernel, key, xt, proposal, context, state)

    kernel = TOYS["uniform"].build()

    class Other(type(kernel)):
        def origins(self, xt, x0, t, s=None):
            return super().origins(xt, x0, t, s)

    assert may_change(Ancestral(), kernel) is not None
    assert may_change(Impatient(), kernel) is None
    fields = {field.name: getattr(kernel, field.name) for field in dataclasses.fields(kernel)}
    assert may_change(Ancestral(), Other(**fields)) is None
    assert may_change(Ancestral(), TOYS["two_digits"].build()) is None
    assert may_change(Method(), kernel) is None


def test_what_a_class_of_ones_own_says_wrongly_is_told():
    class Odd(Ancestral):
        def may_change(self, kernel, key, xt, context, state):
            return jnp.ones(3)

    class Loose(type(TOYS["uniform"].build())):
        def leaving_bound(self, xt, t, s=None):
            return jnp.ones((5, 1))

    kernel = TOYS["uniform"].build()
    with pytest.raises(UserError, match=r"Odd: its may_change returns float32 \[3\]: return booleans \[B, L\]"):
        may_change(Odd(), kernel)
    fields = {field.name: getattr(kernel, field.name) for field in dataclasses.fields(kernel)}
    with pytest.raises(
        UserError, match=r"Loose: its leaving_bound returns float32 \[5, 1\]: return floats of the shape"
    ):
        may_change(Ancestral(), Loose(**fields))
