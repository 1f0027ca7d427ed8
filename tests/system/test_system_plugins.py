"""Plug-ins of one's own, of every kind and with options, in one file outside the package, by the command line alone."""

import json
import sys

import numpy as np
import pytest
import tiny

from semdlm_jax.data.tokenizers import load_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.load import load_trained

MODULE = '''
import dataclasses

import jax
import jax.numpy as jnp
import optax

from semdlm_jax.data.corpora import Corpus, CorpusSpec
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.data.tokenizers import TokenizerSpec
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


@dataclasses.dataclass(frozen=True)
class Counted(CorpusSpec):
    """Numbers, digit by digit, from the first one on."""

    first: int = field(number(0, "[0, 1000]", "number"))

    def load(self):
        numbers = tuple(" ".join(str(self.first + n)) * 4 for n in range(300))
        return Corpus(numbers[:240], numbers[240:270], numbers[270:])


@dataclasses.dataclass(frozen=True)
class Chunks(OwnTokenizer):
    """Pieces of equal length."""

    size: int = 1

    def ids_of(self, text):
        places = {piece: i for i, piece in enumerate(self.vocabulary)}
        return [places.get(text[i : i + self.size], self.unk_id) for i in range(0, len(text), self.size)]

    def text_of(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@dataclasses.dataclass(frozen=True)
class Chunked(TokenizerSpec):
    """The pieces of so many characters that the text has."""

    size: int = 1

    def build(self, text):
        pieces = {part[i : i + self.size] for part in text for i in range(0, len(part), self.size)}
        return Chunks(tuple(sorted(pieces)), self.lowercase, self.size)
'''
NAME = "plugins_of_a_users_own"
CHANGES = {
    "data.corpus": "Counted",
    "data.first": 100,
    "data.tokenizer": "Chunked",
    "data.size": 2,
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
        options = [f"--config={config_file}", *changes, f"--config.data.directory={folder}/data"]
        result = tiny.command("data.prepare", *options)
        assert result.status == 0, result.err
        yield options
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
    prepared = trained.corpus.prepared
    assert prepared.tokenizer.decode(prepared.splits["train"][:9]).startswith("1 0 01 0 0")
    assert prepared.tokenizer.size == 2 and {len(text) for text in prepared.tokenizer.texts} <= {0, 1, 2}
    assert prepared.meta["settings"].items() >= {"first": 100, "size": 2, "corpus": f"{NAME}:Counted"}.items()
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
    assert 0 < report["sections"]["likelihood"]["details"]["nelbo"] < np.inf
    figures = report["sections"]["generation"]["figures"]
    assert figures.keys() == {"distinct_2", f"{NAME}:Longest"}
    longest = figures[f"{NAME}:Longest"]["values"]
    assert longest["generated"] == longest["heldout"] == {"value": 32.0, "low": None, "high": None}  # of 16 tokens
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
        ([f"--config.optimizer.name={NAME}:Absent"], [f"{NAME} has no Absent"]),
        (["--config.data.first=-1"], ["data.first = -1", "[0, 1000]"]),
        (["--config.data.first=7"], ["was prepared with first = 100", "config.data.first is 7"]),
        ([f"--config.data.tokenizer={NAME}:Chunks"], ["is no tokenizer", "TokenizerSpec"]),
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


def test_an_exported_tokenizer_is_rebuilt_where_its_code_is_trusted(workdir, tmp_path, monkeypatch):
    """The corpus, which only preparation reads, need not be there."""
    result = tiny.command("export", f"--workdir={workdir}", f"--output={tmp_path}/model")
    assert result.status == 0, result.err
    monkeypatch.delitem(sys.modules, NAME)
    sampling = [f"--model={tmp_path}/model", "--steps=2", "--num_samples=1", "--prompt=1 0 0 ", "--seed=3"]
    tiny.assert_refused(tiny.command("generate", *sampling), "tokenizer", NAME, "--trust_code")
    assert NAME not in sys.modules
    # What the file of the tokenizer names is not imported either, whatever the configuration says.
    with pytest.raises(UserError, match=f"code of whoever prepared the text, {NAME}:Chunks"):
        load_tokenizer(tmp_path / "model")
    result = tiny.command("generate", *sampling, "--trust_code")
    assert result.status == 0 and "── 0 ──\n1 0 0 " in result.out, result.err
