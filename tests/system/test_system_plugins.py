"""Plug-ins of one's own, of every kind and with options, in one file outside the package, by the command line alone."""

import json
import sys

import numpy as np
import pytest
import tiny

from semdlm_jax.experiment.load import load_trained

MODULE = '''
import dataclasses

import jax
import jax.numpy as jnp
import optax

from semdlm_jax.kernels import GlobalPrior, Kernel, KernelSpec, NeighborTable
from semdlm_jax.kernels.branches import Global
from semdlm_jax.evaluation.measures import Measure
from semdlm_jax.kernels.schedules import Schedule
from semdlm_jax.objectives import Loss, Parameterization
from semdlm_jax.options import number
from semdlm_jax.plugins import field
from semdlm_jax.runtime.optimizer import LearningRate, Optimizer
from semdlm_jax.samplers.methods import Ancestral


@dataclasses.dataclass(frozen=True)
class Flattened(KernelSpec):
    """Jumps to the unigram, flattened."""

    flatness: float = field(number(0.5, "[0, 1]", "of the unigram"))

    def build(self, vocabulary):
        probs = (1 + vocabulary.require("unigram")) ** (1 - self.flatness)
        mixture = Global(schedule=self.schedule)
        return Kernel(NeighborTable.empty(vocabulary.size), GlobalPrior.from_probs(probs), mixture)


@dataclasses.dataclass(frozen=True)
class Halted(Schedule):
    """alpha = 1 - reach t."""

    reach: float = 0.75

    def alpha(self, t):
        return 1 - self.reach * t

    def noise(self, t):
        return self.reach * t

    def alpha_dot(self, t):
        return jnp.full_like(t, -self.reach)


@dataclasses.dataclass(frozen=True)
class Focal(Loss):
    """The cross-entropy, less of what is likely."""

    focus: float = 2.0

    def terms(self, objective, x):
        loss = objective.posterior.cross_entropy(objective.kernel, x.logits, x.x0, x.xt, x.t)
        weight = x.importance * (1 - jnp.exp(-loss)) ** self.focus
        return weight * loss, weight


@dataclasses.dataclass(frozen=True)
class Tempered(Parameterization):
    """bayes of flatter logits."""

    heat: float = 1.0

    any_kernel = True

    def log_weights(self, kernel, logits, xt, t):
        return kernel.add_log_likelihoods(logits / self.heat, xt, t)


@dataclasses.dataclass(frozen=True)
class Signs(Optimizer):
    """Steps of one size."""

    size: float = 1.0

    def updates(self, schedule):
        return optax.chain(optax.scale_by_sign(), optax.scale(self.size), optax.scale_by_learning_rate(schedule))


@dataclasses.dataclass(frozen=True)
class Halving(LearningRate):
    """Half as much every so many steps."""

    halve_every: int = 100

    def shape(self, step, total_steps):
        return 0.5 ** (step / self.halve_every)


@dataclasses.dataclass(frozen=True)
class Idle(Ancestral):
    """Ancestral steps that leave some positions as they are."""

    idleness: float = 0.5

    def step(self, kernel, key, xt, proposal, now, state):
        coin, rest = jax.random.split(key)
        taken = super().step(kernel, rest, xt, proposal, now, state)
        stays = jax.random.uniform(coin, xt.shape) < self.idleness
        return taken._replace(tokens=jnp.where(stays, xt, taken.tokens))


@dataclasses.dataclass(frozen=True)
class Longest(Measure):
    """The longest row, times a factor."""

    factor: float = 2.0

    title = "longest row"

    def of(self, samples):
        return {name: self.factor * max(map(len, rows)) for name, rows in samples.rows.items()}
'''
NAME = "plugins_of_a_users_own"
CHANGES = {
    "kernel.name": "Flattened",
    "kernel.flatness": 0.25,
    "kernel.schedule.name": "Halted",
    "kernel.schedule.reach": 0.5,
    "objective.name": "Focal",
    "objective.focus": 1.5,
    "objective.parameterization": "Tempered",
    "objective.heat": 1.25,
    "optimizer.name": "Signs",
    "optimizer.size": 0.5,
    "optimizer.schedule": "Halving",
    "optimizer.halve_every": 3,
    "training.steps": 4,
    "warmup.steps": 1,
    "warmup.kernel": "Flattened",
    "warmup.objective": "Focal",
}


def named(value):
    return f"{NAME}:{value}" if isinstance(value, str) else value


@pytest.fixture(scope="module")
def options(config_file, tmp_path_factory):
    """The command line's, the module where Python looks."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / f"{NAME}.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        changes = [f"--config.{key}={named(value)}" for key, value in CHANGES.items()]
        yield [f"--config={config_file}", *changes]
        sys.modules.pop(NAME, None)


@pytest.fixture(scope="module")
def workdir(options, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plugin_runs") / "run"
    result = tiny.command("train", f"--workdir={workdir}", *options)
    assert result.status == 0, result.err
    assert "nothing reads" not in result.out
    return workdir


def test_they_are_made_with_their_options(workdir):
    trained = load_trained(workdir)
    objective, kernel = trained.objective, trained.objective.kernel
    assert kernel.alpha(np.float32(1)) == pytest.approx(0.5)
    assert (objective.loss.focus, objective.parameterization.heat) == (1.5, 1.25)
    wanted = (1 + trained.corpus.vocabulary.unigram) ** 0.75
    np.testing.assert_allclose(kernel.prior_probs(np.float32(1)), wanted / wanted.sum(), atol=1e-6)


def test_the_optimizer_takes_steps_of_its_own_size(workdir):
    """The learning rate logged is Halving's; of one sign a step, no parameter moves further than the sum of them."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rates = {row["step"]: row["train/learning_rate"] for row in rows if "train/learning_rate" in row}
    config = json.loads((workdir / "config.json").read_text())["optimizer"]
    peak, warmup = config["learning_rate"], config["warmup_steps"]
    for step, rate in rates.items():
        assert rate == pytest.approx(peak * min(1, step / max(warmup, 1)) * 0.5 ** ((step - 1) / 3), rel=1e-5)


def test_they_are_evaluated_and_sampled(workdir, tmp_path):
    options = "--samples=2", f"--measures=distinct_2,{NAME}:Longest", f"--output={tmp_path}/report.json"
    result = tiny.command("evaluate", f"--workdir={workdir}", *options)
    assert result.status == 0 and "longest row" in result.out, result.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0 < report["likelihood"]["nelbo"] < np.inf
    assert report["samples"].keys() == {"distinct_2", f"{NAME}:Longest"}
    assert report["samples"][f"{NAME}:Longest"] == {"generated": 32.0, "heldout": 32.0}  # of 16 tokens
    sampling = [f"--sampler={NAME}:Idle", "--idleness=1.0", "--steps=2", "--num_samples=1"]
    result = tiny.command("generate", f"--workdir={workdir}", *sampling)
    assert result.status == 0 and "── 0 ──" in result.out and "idleness 1.0" in result.out, result


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--config.objective.focs=1"], ["'focs'", "did you mean 'focus'"]),
        (["--config.objective.focus=nan"], ["objective.focus = nan is no finite number"]),
        (["--config.kernel.flatness=1.5"], ["kernel.flatness = 1.5", "[0, 1]"]),
        ([f"--config.objective.name={NAME}:Flattened"], ["is no objective", "extends semdlm_jax.objectives"]),
        ([f"--config.optimizer.name={NAME}:Absent"], ["cannot be imported"]),
    ],
)
def test_what_they_lack_is_refused(options, changes, words, tmp_path):
    result = tiny.command("train", f"--workdir={tmp_path}/run", *options, *changes)
    tiny.assert_refused(result, *words)
    assert not (tmp_path / "run").exists()


def test_elsewhere_none_is_run_unasked(workdir, monkeypatch):
    monkeypatch.delitem(sys.modules, NAME)
    tiny.assert_refused(tiny.command("evaluate", f"--workdir={workdir}"), NAME, "--trust_code")
    assert NAME not in sys.modules
