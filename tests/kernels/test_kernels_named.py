"""Branch weights and the registry."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import MASK, TOYS, K, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, GlobalPrior, KernelBase, NeighborTable, Vocabulary, make_kernel
from semdlm_jax.kernels.branches import Hybrid, Practical, SemanticThenGlobal, Weights

TABLES = {name: toy for name, toy in TOYS.items() if isinstance(toy, toys.Toy)}
every_table = pytest.mark.parametrize("toy", TABLES.values(), ids=TABLES)


@every_table
def test_weights_and_their_derivatives(float64, toy):
    branches = toy.build().branches
    t = np.linspace(0.001, 0.999, 57)
    values, derivatives = jax.jvp(branches.weights, (jnp.asarray(t),), (jnp.ones_like(t),))
    expected = [np.broadcast_to(w, t.shape) for w in toy.weights(t + 1e-30j)]
    if toy.shares is not None:
        expected += [np.array([toy.shares(x + 1e-30j)[i] for x in t]) for i in (0, 1)]
    for value, slope, exact in zip(values, derivatives, expected, strict=False):
        np.testing.assert_allclose(value, exact.real, atol=1e-14)
        np.testing.assert_allclose(slope, exact.imag / 1e-30, rtol=1e-9, atol=1e-12)


@every_table
def test_weights_are_probabilities_from_end_to_end(toy):
    alpha, beta, sigma, k_minus_1, prior_share, mask_share = toy.build().branches.weights(jnp.linspace(0, 1, 101))
    np.testing.assert_allclose(alpha + beta + sigma, 1, atol=3e-7)
    assert min(x.min() for x in (alpha, beta, sigma, k_minus_1)) >= 0 and k_minus_1.max() <= K - 1
    assert (np.diff(alpha) <= 0).all() and (np.diff(k_minus_1) >= 0).all()
    if prior_share is not None:
        np.testing.assert_allclose((prior_share + mask_share)[1:], 1, atol=3e-7)


@jax.jit
def _all_rates(kernel, t):
    rates = kernel.reverse(jnp.tile(jnp.arange(V), (len(t), 1)), t[:, None])
    return rates.total, rates.unseen, rates.mixed(jnp.full((len(t), V, V), 1 / V))


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_rates_are_finite_in_float32(toy):
    for values in _all_rates(toy.build(), np.float32([1e-5, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-5])):
        values = np.asarray(values)
        assert np.isfinite(values).all() and values.min() >= 0


def test_practical_contains_the_papers_default():
    t = jnp.linspace(0, 1, 33)
    for one, other in zip(Practical(9, 2.0).weights(t)[:4], SemanticThenGlobal(9, 2.0).weights(t)[:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 1e-6])
def test_hybrid_without_uniform_noise_is_absorbing(share):
    t, (x0, xt) = jnp.array([0.1, 0.5, 0.9, 1.0])[:, None, None], toys.pairs()
    one, other = build("hybrid", uniform_share=share), build("absorbing")
    np.testing.assert_allclose(one.prob(xt, x0, t), other.prob(xt, x0, t), atol=2 * share + 1e-7)


def test_hybrid_has_its_share_of_uniform_noise_at_the_middle():
    """p_u of all tokens at n = 1/2, whatever gamma is."""
    for gamma in (0.5, 1.0, 2.0):
        w = Hybrid(0.2, gamma).weights(jnp.array(0.5))
        assert float(w.beta * w.prior_share) == pytest.approx(0.2, rel=1e-6)


def test_softmax_of_infinite_temperature_is_uniform(float64):
    x0, xt = toys.pairs()
    t = jnp.array([0.3, 0.8])[:, None, None]
    hot, flat = build("semantic_softmax", tau_scale=1e6), build("uniform")
    np.testing.assert_allclose(hot.prob(xt, x0, t), flat.prob(xt, x0, t), atol=1e-6)
    # Cold, every token with a meaning is its own nearest: 1 / tau = 200, against the dense softmax.
    cold = build("semantic_softmax", tau_min=2.5e-3, tau_scale=2.5e-3)
    weight = np.exp(200 * (toys.EMBEDDINGS @ toys.EMBEDDINGS.T - 1))
    near = np.asarray(cold.noise_prob(xt, x0, jnp.array(0.5)))
    np.testing.assert_allclose(near, 0.5 * weight / weight.sum(1, keepdims=True), rtol=1e-6)
    assert np.diag(near)[2:].min() > 0.4


@pytest.mark.parametrize("vocab_size", [200, 300])
def test_softmax_over_several_blocks(float64, vocab_size):
    """More tokens than a block, and not a whole number of blocks: sums, draws and pushes against the dense matrix."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((vocab_size, 6))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    kernel = make_kernel("semantic_softmax", Vocabulary(vocab_size, 0, embeddings=embeddings))
    weight = np.exp((0.6 / (0.05 * 0.6 + 0.1 * 0.4)) * (embeddings @ embeddings.T - 1))
    noise = 0.4 * weight / weight.sum(1, keepdims=True)
    t = np.array([[0.4]])
    tokens = np.arange(vocab_size)[None]
    np.testing.assert_allclose(toys.compiled("noise_probs", kernel, tokens, t)[0], noise, rtol=1e-6)
    w = rng.random((1, 5, vocab_size))
    np.testing.assert_allclose(toys.compiled("noise_matvec", kernel, w, t), w @ noise, rtol=1e-6)
    drawn = toys.compiled("sample_noise", kernel, toys.key(0), np.full(200_000, 7), np.full(200_000, 0.4))
    toys.assert_frequencies(drawn, noise[7] / noise[7].sum())


COUNTS = np.array([0, 5, 0, 100, 10, 1, 2, 3, 4, 5, 6, 7])


def test_unigram_priors_of_the_paper():
    """Eq. 119: valid tokens that are not too rare, by their frequency to a power."""
    valid = np.arange(V) != 3
    prior = GlobalPrior.unigram(COUNTS, valid, exponent=0.5, min_count=3)
    expected = np.sqrt(np.where(valid & (COUNTS >= 3), COUNTS, 0))
    np.testing.assert_allclose(prior.probs, expected / expected.sum(), rtol=1e-6)
    assert not prior.flat and GlobalPrior.uniform(V).flat
    np.testing.assert_allclose(GlobalPrior.unigram(COUNTS).probs, COUNTS / COUNTS.sum(), rtol=1e-6)
    for options, says in [
        ({"exponent": 0.0}, r"\(0, 1\]"),
        ({"exponent": 1.5}, r"\(0, 1\]"),
        ({"min_count": 101}, "lower the floor"),
    ]:
        with pytest.raises(UserError, match=says):
            GlobalPrior.unigram(COUNTS, **options)


def test_priors_by_name():
    known = toys.vocabulary(unigram=COUNTS, valid=np.arange(V) != 3)
    kernel = make_kernel("semdlm_plus", known, prior="unigram", prior_exponent=0.5, min_count=3)
    assert kernel.global_prior.probs[3] == 0 and kernel.global_prior.probs[5] == 0
    assert make_kernel("unigram", known).global_prior.probs[3] > 0.5  # the marginal kernel keeps to no rule
    with pytest.raises(UserError, match="prior = 'unigramm' is unknown.*'unigram'"):
        make_kernel("semdlm_plus", known, prior="unigramm")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gamma": 0.0}, "gamma = 0.0"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"k_max": 0}, "k_max = 0"),
        ({"alpha_min": 0.3, "beta_max": 0.8}, "semantic branch"),
        ({"beta_power": 0.5}, "semantic branch"),
        ({"alpha_min": -0.2}, "alpha_min"),
        ({"beta_max": -0.2}, "beta_max"),
        ({"alpha_power": -1.0}, "alpha_power"),
        ({"beta_power": -1.0}, "beta_power"),
    ],
)
def test_impossible_branches_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        Practical(**{"k_max": K, **options})
    if set(options) <= {"gamma", "k_max"}:
        with pytest.raises(UserError, match=says):
            SemanticThenGlobal(**{"k_max": K, **options})


@pytest.mark.parametrize("options", [{"uniform_share": 1.0}, {"uniform_share": -0.1}, {"hybrid_gamma": 0.0}])
def test_impossible_hybrids_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        build("hybrid", **options)


@pytest.mark.parametrize("options", [{"tau_min": 0.0}, {"tau_scale": -1.0}])
def test_impossible_temperatures_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        build("semantic_softmax", **options)


def build(name, **options):
    return make_kernel(name, toys.vocabulary(), **options)


def test_unknown_names_and_options():
    with pytest.raises(UserError, match="unknown kernel 'absorbin'.*did you mean 'absorbing'"):
        build("absorbin")
    with pytest.raises(UserError, match="no option 'gama'.*did you mean 'gamma'"):
        build("semdlm_plus", gama=2.0)
    with pytest.raises(UserError, match="no option 'gamma'"):
        build("absorbing", gamma=2.0)


def test_a_kernel_of_the_callers_own_module(tmp_path, monkeypatch):
    (tmp_path / "doubled_kernels.py").write_text(
        "import dataclasses\n"
        "from semdlm_jax.kernels import KernelSpec, make_kernel\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Doubled(KernelSpec):\n"
        "    strength: float = 0.5\n"
        "    def build(self, vocabulary):\n"
        "        return make_kernel('hybrid', vocabulary, uniform_share=self.strength)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "doubled_kernels", raising=False)
    assert {name: o.default for name, o in KERNELS.options("doubled_kernels:Doubled").items()} == {"strength": 0.5}
    assert build("doubled_kernels:Doubled", strength=0.3).branches.uniform_share == 0.3
    with pytest.raises(UserError, match="no option 'strenght': it has schedule, strength: did you mean 'strength'"):
        build("doubled_kernels:Doubled", strenght=0.3)
    wrong = {
        "doubled_kernels:tripled": "has no tripled: valid names: Doubled",
        "no_such_module:doubled": "there is no module",
    }
    for name, words in wrong.items():
        with pytest.raises(UserError, match=words):
            build(name)


@pytest.mark.parametrize("name", ["os:system", "shutil:rmtree", "builtins:exec", "math:pi", "json:JSONDecodeError"])
def test_nothing_but_a_kernel_is_made(name):
    with pytest.raises(UserError, match=f"'{name}' is no kernel: .*extends semdlm_jax.kernels.*KernelSpec"):
        build(name)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("neighbor table", {"table": toys.table(toys.ROWS + ((),))}),
        ("unigram", {"unigram": np.ones(13)}),
        ("embeddings", {"embeddings": np.ones((13, 2))}),
        ("valid", {"valid": np.ones(13, bool)}),
    ],
)
def test_parts_of_another_vocabulary(what, changes):
    with pytest.raises(UserError, match=f"the {what} is of 13 tokens but the vocabulary has {V}"):
        toys.vocabulary(**changes)


@pytest.mark.parametrize("name", KERNELS)
def test_without_anything_but_a_size(name):
    """Either the kernel needs no more, or it says how to get it."""
    try:
        kernel = make_kernel(name, Vocabulary(V, MASK))
    except UserError as error:
        assert "semdlm_jax.semantics.build" in str(error)
    else:
        assert kernel.vocab_size == V


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_pass_through_jit(name):
    kernel = build(name, **({"blocks": "4"} if name == "nested" else {}))
    rebuilt = jax.jit(lambda kernel: kernel)(kernel)
    assert rebuilt.mask_id == kernel.mask_id
    assert jax.tree.structure(rebuilt) == jax.tree.structure(kernel)


OF_AN_EARLIER_VERSION = """
from semdlm_jax.kernels import Kernel


class Own(Kernel):
    def redraw(self, key, x0, t):
        return x0
"""


def test_methods_by_their_former_names_are_told(tmp_path, monkeypatch):
    """In the file of a user's own kernel, and on a kernel or its branches: one sentence with the name of today."""
    (tmp_path / "kernels_of_an_earlier_version.py").write_text(OF_AN_EARLIER_VERSION)
    monkeypatch.syspath_prepend(tmp_path)
    told = "^kernel 'kernels_of_an_earlier_version:Own': Own.redraw is called sample_noise now: rename the method$"
    with pytest.raises(UserError, match=told):
        KERNELS.find("kernels_of_an_earlier_version:Own")
    mixin = type("Mixin", (), {"noise_column": None})
    with pytest.raises(UserError, match="^Mixed.noise_column is called noise_likelihoods now: rename the method$"):
        type("Mixed", (mixin, KernelBase), {})
    with pytest.raises(UserError, match="^Kernel.push_noise is called noise_matvec now: rename the call$"):
        build("uniform").push_noise(None, None)
    with pytest.raises(UserError, match="^SemanticThenGlobal.growth is called k_minus_1 now"):
        SemanticThenGlobal(3).growth(0.5)
    with pytest.raises(AttributeError, match="'Kernel' object has no attribute 'redrawn'"):
        build("uniform").redrawn()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Weights(1, 0, 0, growth=3), "Weights has no argument 'growth': it is called k_minus_1 now"),
        (lambda: Weights(1, 0, 0, 0, spread=1), "Weights has no argument 'spread': it is called prior_share now"),
        (lambda: Weights(1, 0, 0, 0).masked, "Weights.masked is called mask_share now"),
        (
            lambda: make_kernel("unigram", None, tau=1),
            "kernel 'unigram' has no option 'tau': it is called prior_exponent",
        ),
        (lambda: KERNELS["unigram"](tau=1), "Unigram has no argument 'tau': it is called prior_exponent now"),
        (lambda: GlobalPrior.unigram([1], least=2), "GlobalPrior.unigram has no argument 'least': .* min_count now"),
    ],
)
def test_arguments_by_their_former_names_are_told(call, told):
    with pytest.raises(UserError, match=told):
        call()


def test_arguments_that_never_were_are_python_errors():
    with pytest.raises(TypeError, match="unexpected keyword argument 'taus'"):
        KERNELS["unigram"](taus=1)
    with pytest.raises(AttributeError, match="'Weights' object has no attribute 'grown'"):
        Weights(1, 0, 0, 0).grown  # noqa: B018
    assert Weights(1, 0, 0, 0)._replace(k_minus_1=2).k == 3


def test_tables_are_required_by_drift_alone():
    assert isinstance(build("absorbing").table, NeighborTable) and build("absorbing").table.k_max == 0
