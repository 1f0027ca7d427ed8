"""The scan: strides, given positions, records, chunks, compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_samplers import INDEPENDENT, assert_independent, plan_of, sample, suits
from toys import MASK, TOYS, V

from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import METHODS, Controls, Network, Sampler, make_controls, make_method, make_plan, proposing

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPE = (6, 16)
NOTHING = np.zeros(SHAPE, bool)
TABLE = toys.table()


def read(tokens, t, lengths):
    """A network that sees what it may see: what it says depends on the visible tokens, their order and the time."""
    visible = jnp.where(jnp.arange(tokens.shape[1]) < lengths[:, None], tokens, 0)
    seen = jnp.cumsum(visible, axis=1) + jnp.sum(visible, axis=1, keepdims=True)
    return jnp.stack([seen.astype(jnp.float32), jnp.broadcast_to(t[:, None], seen.shape)], -1)


READER = Network(read, lambda features: 2 * jnp.sin(features[..., :1] * (1 + jnp.arange(V)) + features[..., 1:]))
PENALIZED = make_controls(TABLE, lambda_freq=0.5, lambda_sem=0.5, window=5)
FAST = {"gidd_correct": {"corrections": 3}}


# Drafts of text, of noise, and corrections: a corrector knows of a method no more than that.
CORRECTED = ("ancestral", "sedd_analytic", "gidd_correct")


def read_sample(method="ancestral", strides=4, lengths=None, **more):
    """All that a method has at once, so that every test of a method runs the same compiled program."""
    kernel = "absorbing" if suits(method, "absorbing") else "hybrid"
    more |= {"options": FAST.get(method, {}), "controls": PENALIZED if method != "sedd_euler" else None}
    more |= {"corrector": (1, 0.5) if method in CORRECTED else (), "network": READER, "recorded": 6}
    lengths = np.full(6, 16) if lengths is None else lengths
    return sample(kernel, method, SHAPE, strides=strides, steps=12, lengths=lengths, **more)


@pytest.mark.parametrize("method", METHODS)
def test_given_tokens_are_kept_wherever_they_stand(method):
    """Prompts, suffixes and holes, tokens that text may not hold included: at every step, corrections and a corrector
    included. All else changes within its stride alone, and ends without masks."""
    rng = np.random.default_rng(4)
    given, is_given = rng.integers(0, V, SHAPE), rng.random(SHAPE) < 0.4
    is_given[:3] = [np.arange(16) < 5, np.arange(16) >= 11, np.ones(16, bool)]
    text, record = read_sample(method, given=given, is_given=is_given)
    np.testing.assert_array_equal(text[is_given], given[is_given])
    for tokens in (record.initial, *record.tokens):
        np.testing.assert_array_equal(tokens[is_given], given[is_given])
    assert not record.frozen[:, is_given].any()
    assert (text[~is_given] != MASK).all()
    np.testing.assert_array_equal(record.tokens[-1], text)
    for step in range(12):
        start, stop = step // 3 * 4, step // 3 * 4 + 4
        np.testing.assert_array_equal(record.tokens[step][:, stop:], record.initial[:, stop:])
        np.testing.assert_array_equal(
            record.tokens[step][:, :start], record.tokens[max(start // 4 * 3 - 1, 0)][:, :start]
        )


def test_the_network_is_told_the_time_and_where_the_text_ends():
    """One token for every pair of the two: what a step writes says what it was told."""

    def code(t, lengths):
        return 3 + 4 * (lengths == 8) + jnp.floor(3.99 * t).astype(jnp.int32)

    network = Network(
        lambda tokens, t, lengths: jnp.broadcast_to(code(t, lengths)[:, None], tokens.shape),
        lambda features: 50.0 * jax.nn.one_hot(features, V),
    )
    plan = make_plan(None, 8, 2, 8, 0.1)
    _, record = sample("absorbing", "ancestral", (50, 8), plan, network=network, recorded=50)
    before = record.initial
    for t, stop, tokens in zip(plan.t, plan.stop, record.tokens, strict=True):
        written = (before == MASK) & (tokens != MASK)
        assert written.any() and (tokens[written] == code(t, stop)).all()
        before = tokens


@pytest.mark.parametrize("method", METHODS)
def test_padding_is_neither_seen_nor_counted_nor_written(method):
    """Rows with padding behind them are what they are with any other padding, with strides, corrections, a corrector
    and a penalty. That whole rows differ where all of them is seen, by every method, shows that padding could be."""
    lengths = np.array([16, 3, 7, 12, 1, 9])
    padding = np.broadcast_to(np.arange(16), SHAPE) >= lengths[:, None]

    def text(token, lengths):
        return read_sample(method, given=token, is_given=padding, lengths=lengths, strides=2)[0]

    one, other = text(4, lengths), text(7, lengths)
    np.testing.assert_array_equal(one[~padding], other[~padding])
    assert (one[padding] == 4).all() and (other[padding] == 7).all()
    assert (text(4, None)[~padding] != text(7, None)[~padding]).any()


def test_hidden_positions_do_not_influence_earlier_strides():
    """A suffix that lies in a later stride changes only what comes from its stride on."""
    position = np.broadcast_to(np.arange(16), SHAPE)
    one, other = (read_sample(given=token, is_given=position >= 12)[0] for token in (4, 7))
    np.testing.assert_array_equal(one[:, :12], other[:, :12])
    one, other = (read_sample(given=token, is_given=position < 2)[0] for token in (4, 7))
    assert (one[:, 12:] != other[:, 12:]).any()


def test_one_key_one_text():
    np.testing.assert_array_equal(read_sample(key=1)[0], read_sample(key=1)[0])
    assert (read_sample(key=1)[0] != read_sample(key=2)[0]).any()


TRACES = []


@jax.jit
def _generate(kernel, key, given, is_given, plan, controls):
    TRACES.append(1)
    sampler = Sampler(make_method("ancestral"), kernel, make_posterior())
    return sampler.sample(key, READER, given, is_given, plan, controls, recorded=2)


def arguments(seed, temperature=1.0, top_p=0.9, weight=0.5, scale=1.0):
    rng = np.random.default_rng(seed)
    kernel = TOYS["semdlm_plus"].build()
    plan = plan_of(kernel, make_method("ancestral"), 12, 16, 4)
    plan = plan._replace(t=plan.t * np.float32(scale), s=plan.s * np.float32(scale))
    values = {"temperature": temperature, "top_p": top_p, "lambda_freq": weight, "lambda_sem": 2 * weight, "top_k": 5}
    controls = make_controls(TABLE, **values, window=5, greedy_end=bool(seed % 2), forbidden_V=jnp.arange(V) == MASK)
    given, is_given = rng.integers(0, V, SHAPE, np.int32), rng.random(SHAPE) < 0.3 * seed
    return kernel, jax.random.key(seed), *jax.device_put((given, is_given, plan, controls))


def test_compiled_once_for_all_prompts_seeds_controls_and_times():
    """And it neither leaves the device nor calls back: no transfer where all arguments lie there."""
    texts = [_generate(*arguments(0))[0]]
    before, compiled = len(TRACES), _generate.lower(*arguments(0))
    assert "callback" not in compiled.as_text()
    others = [
        arguments(1),
        arguments(2, temperature=0.0),
        arguments(3, top_p=0.5, scale=0.999),
        arguments(0, weight=2.0),
    ]
    for changed in others:
        with jax.transfer_guard("disallow"):
            texts.append(_generate(*changed)[0])
    assert len(TRACES) == before == 1
    assert all((texts[0] != text).any() for text in texts[1:])


def chunked(monkeypatch, positions, rows):
    """Logits of so many positions at a time."""
    monkeypatch.setattr(proposing, "CPU_NUMBERS", positions * rows * V + 1)


def test_positions_at_once():
    """The logits of so many: 2^23 numbers on a CPU; elsewhere to 2^26, at most a quarter of all. Divisors of L."""
    assert proposing.positions_at_once(64, 1024, 30522, "cpu") == 4
    assert proposing.positions_at_once(64, 1024, 30522, "gpu") == 32
    assert proposing.positions_at_once(8, 128, 30522, "cpu") == proposing.positions_at_once(8, 128, 30522, "tpu") == 32
    assert proposing.positions_at_once(16, 100, 30522, "gpu") == 25
    assert proposing.positions_at_once(4096, 64, 30522, "cpu") == 1
    assert proposing.positions_at_once(4, 12, 100, "cpu") == proposing.positions_at_once(4, 12, 100, "gpu") == 12


def test_chunks_of_positions_have_the_law_of_the_whole(monkeypatch):
    """Neighbors within and across chunks of two positions, and what has one place in both, stay independent. False
    alarm 1e-6 each."""
    chunked(monkeypatch, 2, 4000)
    network = Network(INDEPENDENT.features, lambda features: INDEPENDENT.logits(features))  # compiled anew
    text, record = sample("semdlm_plus", "ancestral", (4000, 4), steps=4, network=network, recorded=3)
    assert record.confidence.shape == (4, 3, 4)
    for pair in ([0, 1], [1, 2], [0, 2], [1, 3]):
        assert_independent(text[:, pair])


@pytest.mark.parametrize(("positions", "window"), [(1, None), (1, 1), (1, 5), (3, 40), (5, 0), (5, 5)])
def test_chunks_of_positions_say_what_the_whole_says(monkeypatch, window, positions):
    """Without chance in the drafts the text is the same, token by token: with every window, and where such a
    chunk would not divide the length, which then is a smaller one. Its confidences are to 1e-5."""
    controls = make_controls(TABLE, temperature=0, lambda_freq=0.7 * (window is not None), window=window or 0)
    whole = _greedy(controls)
    chunked(monkeypatch, positions, SHAPE[0])
    sizes, divisor = [], proposing.positions_at_once
    monkeypatch.setattr(proposing, "positions_at_once", lambda *shape: sizes.append(divisor(*shape)) or sizes[-1])
    parts = jax.jit(lambda controls: _greedy.__wrapped__(controls))(controls)  # JAX would know the function itself
    assert set(sizes) == {{1: 1, 3: 2, 5: 4}[positions]}
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_allclose(whole[1].confidence, parts[1].confidence, rtol=1e-5)


@jax.jit
def _greedy(controls):
    kernel, given = TOYS["semdlm_plus"].build(), jnp.zeros(SHAPE, jnp.int32)
    plan = plan_of(kernel, make_method("ancestral"), 6, 16, 2)
    sampler = Sampler(make_method("ancestral"), kernel, make_posterior())
    return sampler.sample(toys.key(1), READER, given, given > 0, plan, controls, recorded=6)


@pytest.mark.parametrize("name", ["uniform", "absorbing"])
def test_records_say_what_happened(name):
    """The first rows, from the start on; confidences are p(draft | x_t) before any truncation, to 1e-4: at a stride's
    last step the draft is the text, and at every step of `sedd` the tokens."""
    toy, rows = TOYS[name], 5
    kernel = toy.build()
    plan = plan_of(kernel, make_method("ancestral"), 4, 8, 2, t_min=0.2)
    initial = kernel.sample_prior(toys.key(5), (40, 8))
    controls = Controls(top_p=jnp.float32(0.5))
    text, record = sample(name, "ancestral", (40, 8), plan, controls=controls, recorded=rows, initial=initial)
    assert record.tokens.shape == record.confidence.shape == record.frozen.shape == (4, rows, 8)
    np.testing.assert_array_equal(record.initial, initial[:rows])
    np.testing.assert_array_equal(record.tokens[-1], text[:rows])
    assert (record.confidence >= 0).all() and (record.confidence <= 1 + 1e-6).all() and not record.frozen.any()
    bayes = toy.bayes(np.float64(plan.t[-1]))
    for last, stride in ((1, slice(0, 4)), (3, slice(4, 8))):
        xt, drafts = record.tokens[last - 1][:, stride], record.tokens[last][:, stride]
        np.testing.assert_allclose(record.confidence[last][:, stride], bayes[xt, drafts], rtol=1e-4)
    _, record = sample(name, "sedd_analytic", (40, 8), plan, recorded=40)
    before = np.concatenate([record.initial[None], record.tokens[:-1]])
    for index, (t, s) in enumerate(zip(np.float64(plan.t), np.float64(plan.s), strict=True)):
        now, stride = slice(None), slice(plan.start[index], plan.stop[index])
        law = np.einsum("xk,kxy->xy", toy.bayes(t), toy.reverse(t, s))
        at = law[before[index][now, stride], record.tokens[index][now, stride]]
        np.testing.assert_allclose(record.confidence[index][now, stride], at, rtol=1e-4)


def test_the_network_sees_the_stride_and_no_further():
    """It writes how many positions it is told of: 4 in the first of two strides, then all 8; 7 in a shorter row."""
    echo = Network(
        lambda tokens, t, lengths: lengths[:, None].repeat(8, 1), lambda ends: 99.0 * jax.nn.one_hot(ends, V)
    )
    options = {"steps": 4, "strides": 2, "network": echo, "lengths": np.array([8, 8, 7])}
    text, nothing = sample("absorbing", "ancestral", (3, 8), **options)
    assert text.tolist() == [[4] * 4 + [8] * 4] * 2 + [[4] * 4 + [7] * 4]
    assert nothing.initial.shape == (0, 8) and nothing.tokens.shape == (4, 0, 8)  # of rows that are not recorded
