"""What users' own plug-ins raise, or return that is of no use, is one sentence with their class, file and line."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.data.tokenizers import TOKENIZERS
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.measures import MEASURES
from semdlm_jax.kernels import KERNELS, SCHEDULES, Vocabulary, branches, make_kernel
from semdlm_jax.keys import KEYS
from semdlm_jax.objectives import LOSSES, NoisyBatch, make_objective
from semdlm_jax.runtime.optimizer import LEARNING_RATES, OPTIMIZERS
from semdlm_jax.samplers import Network, Sampler, make_method, make_plan

HEAD = """import dataclasses
import jax
import jax.numpy as jnp
from semdlm_jax.kernels import KernelSpec, GlobalPrior, Kernel, NeighborTable, branches
from semdlm_jax.kernels.schedules import Linear, Schedule
from semdlm_jax.objectives import Loss, Parameterization
from semdlm_jax.runtime.optimizer import LearningRate, Optimizer
from semdlm_jax.evaluation.measures import Measure
from semdlm_jax.samplers.methods import Method, Step, step_to
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module `mine` of one class: its base, and its body."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(base, *body, head=HEAD, name="Mine"):
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        importlib.invalidate_caches()
        lines = [head, "@dataclasses.dataclass(frozen=True)", f"class {name}({base}):", *(f"    {one}" for one in body)]
        (tmp_path / "mine.py").write_text("\n".join(lines) + "\n")
        return "mine:Mine"

    yield written
    sys.modules.pop("mine", None)


def told(action):
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine:Other", "'mine:Other': mine has no Other: valid names: Mine"),
        ("mine:Min", "mine has no Min: did you mean 'Mine'?"),
        ("mine:Loss", "is no kernel: give a frozen dataclass"),
        ("mine.Mine", "unknown kernel 'mine.Mine': for a class of your own give module:Class, here mine:Mine"),
        ("mien:Mine", "there is no module mien here: run where Python finds mien.py, or add its folder to PYTHONPATH"),
        ("json:dump2", "json has no dump2: write a frozen dataclass that extends semdlm_jax.kernels.spec.KernelSpec"),
        ("unifrm", "did you mean 'uniform'?"),
        ("qqq", "valid names: absorbing, .*; or a class of your own, as module:Class"),
    ],
)
def test_a_name_that_stands_for_no_class(write, name, words):
    write("KernelSpec", "def build(self, vocabulary): pass")
    with pytest.raises(UserError, match=words):
        KERNELS.find(name)
    if ":" not in name:
        with pytest.raises(UserError, match=words.removeprefix("unknown kernel 'mine.Mine': ")):
            KEYS["kernel.name"].check("kernel.name", name)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("import nothing_such", "its module imports nothing_such, which is not here: install it"),
        ("import dataclasses\n1 / 0", "its module failed (ZeroDivisionError division by zero, mine.py line 2): mend"),
        ("import dataclasses)", "its module failed (SyntaxError unmatched ')', mine.py line 1): mend"),
        ("raise SystemExit", "its module failed (SystemExit, mine.py line 1): mend"),
    ],
)
def test_a_module_that_cannot_be_imported(write, head, words):
    write("object", "pass", head=head)
    assert words in told(lambda: KERNELS.find("mine:Mine"))


def train(name):
    objective = make_objective(name, make_kernel("uniform", Vocabulary(5, 4)))
    tokens = jnp.zeros((2, 3), jnp.int32)
    batch = NoisyBatch(tokens, tokens, jnp.full(2, 0.5), jnp.ones((2, 3)))
    jax.eval_shape(lambda x: objective.sums(lambda x: x, x, batch, jax.random.key(0)), jnp.zeros((2, 3, 5)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (["def terms(self, x): return x"], "mine:Mine failed in terms (TypeError Mine.terms() takes 2 positional"),
        (
            ["def terms(self, o, x):", "  y = 1", "  return x.nothing"],
            "has no attribute 'nothing', mine.py line 15): mend",
        ),
        (["def terms(self, o, x): return jnp.mean(x.logits)"], "mine:Mine: its terms returns float32 []: return (loss"),
        (["def terms(self, o, x): return x.logits, x.t"], "(float32 [2, 3, 5], a weight): return (loss, weight), two"),
        (
            ["def terms(self, o, x): return x.logits + x.t, x.t"],
            "mine:Mine failed in terms (ValueError Incompatible shapes for broadcasting",
        ),
        (
            ["def terms(self, o, x): return 0, 0", "@property", "def unchanged_weight(self): return self.same"],
            "failed in unchanged_weight (AttributeError",
        ),
    ],
)
def test_a_loss(write, body, words):
    name = write("Loss", *body)
    assert words in told(lambda: train(name))


def sample(name):
    kernel = make_kernel("uniform", Vocabulary(5, 4))
    posterior = make_objective("denoising", kernel).posterior
    sampler = Sampler(make_method(name), kernel, posterior)
    network = Network(lambda tokens, t, lengths: tokens, lambda x: jnp.zeros((*x.shape, 5)))
    given = jnp.zeros((2, 3), jnp.int32)
    plan = make_plan(kernel, steps=2, strides=1, length=3, t_min=1e-3)
    jax.eval_shape(lambda: sampler.sample(jax.random.key(0), network, given, given > 0, plan))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return xt", "its step returns a DynamicJaxprTracer: return a Step, as methods.step_to"),
        ("return step_to(xt * 1.0)", "a Step whose tokens are float32 [2, 3]: return token ids, integers [B, L]"),
        ("return step_to(xt[0])", "a Step whose tokens are int32 [3]"),
        ("return Step(xt, xt)", "a Step whose `frozen` is int32 [2, 3]: return booleans"),
        (
            "return step_to(xt, state=xt)",
            "a Step whose state is ShapeDtypeStruct(shape=(2, 3), dtype=int32): return one",
        ),
        ("return step_to(xt + self.missing)", "failed in step (AttributeError"),
    ],
)
def test_a_sampler(write, body, words):
    name = write("Method", "def step(self, kernel, key, xt, proposal, context, state):", f"  {body}")
    assert words in told(lambda: sample(name))


T = jnp.array([[0.5], [0.25]])
VOCABULARY = Vocabulary(5, 4)


@pytest.mark.parametrize(
    ("base", "method", "use", "words"),
    [
        ("KernelSpec", "build(self, v): return prio", lambda name: make_kernel(name, VOCABULARY), "name 'prio' is not"),
        (
            "KernelSpec",
            "build(self, v): return 3",
            lambda name: make_kernel(name, VOCABULARY),
            "a int: return a Kernel",
        ),
        (
            "branches.Branches",
            "weights(self, t): return t",
            lambda name: sys.modules["mine"].Mine().alpha_dot(T),
            "its weights returns a ",
        ),
        (
            "branches.Branches",
            "weights(self, t): return branches.Weights(1 - t, t, 0.0, 0 * t)",
            lambda name: sys.modules["mine"].Mine().weights(T),
            "its weights returns a float as sigma: return floats of the shape of t, here [2, 1]",
        ),
        ("Linear", "noise(self, t): return 0.5", lambda name: SCHEDULES.make(name).noise(T), "noise returns a float"),
        (
            "Optimizer",
            "updates(self, schedule): return schedule",
            lambda name: OPTIMIZERS.make(name).build(lambda step: 1.0),
            "its updates returns a function: return an optax.GradientTransformation",
        ),
        (
            "LearningRate",
            "shape(self, step, total_steps): return 'falling'",
            lambda name: LEARNING_RATES.make(name).build(5000)(0),
            "its shape returns a str: return one number",
        ),
        (
            "Measure",
            "of(self, samples): return {'generated': float('nan')}",
            lambda name: MEASURES.make(name).of(None),
            "its of returns {'generated': nan}: return a dict",
        ),
    ],
)
def test_every_other_kind(write, base, method, use, words):
    name = write(base, f"def {method}")
    importlib.import_module("mine")
    message = told(lambda: use(name))
    assert words in message and message.startswith("mine:Mine"), message


def test_what_is_right_is_left_alone(write):
    """Nothing of the package is wrapped, and a UserError of the user's own is passed on."""
    name = write("Loss", "def terms(self, objective, x): return x.logits[..., 0], x.importance + 0 * x.t")
    train(name)
    assert hasattr(LOSSES.find(name).terms, "__wrapped__") and not hasattr(LOSSES["nelbo"].check, "__wrapped__")
    name = write("KernelSpec", "def build(self, v): return v.require('table')")
    with pytest.raises(UserError, match="^there is no neighbor table here"):
        make_kernel(name, VOCABULARY)


def test_a_name_that_is_no_text():
    for registry in (KERNELS, TOKENIZERS):
        with pytest.raises(UserError, match="is 3, which is no name: valid names"):
            registry.make(3)
    assert np.shape(branches.Global().weights(T).alpha) == (2, 1)
