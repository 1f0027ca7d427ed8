"""The systems by name: each is found and built as its authors have it, and its loss is a number; one of every kind is
trained, scored by the one bound and sampled."""

import importlib.util
import json
import math

import jax
import numpy as np
import pytest
import tiny

import semdlm_jax as sd
from semdlm_jax.experiment import defaults
from semdlm_jax.experiment.build import build_denoiser, build_objective, build_optimizer
from semdlm_jax.experiment.configs import lm1b, quickstart
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.systems import SYSTEMS
from semdlm_jax.kernels import SCHEDULES

STEPS = 3
# As many as the tiny vocabulary has.
BLOCKS = {name: ["--config.kernel.blocks=16"] for name in ("semdlm_nested", "semdlm_nested_mask", "hdlm")}
BLOCKS |= {name: ["--config.kernel.blocks=16,8,4"] for name in ("semdlm_nested_deep", "tdlm")}
TIMES = "continuous-time bound, 1 t in [0.001, 0.99999] a row"


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    """A function (system, options) -> the work directory of a short run."""

    def run(system, *options):
        workdir = tmp_path_factory.mktemp("systems") / system
        options = [f"--config.training.steps={STEPS}", *options, *BLOCKS.get(system, [])]
        result = tiny.command("train", f"--config={config_file}:{system}", f"--workdir={workdir}", *options)
        assert result.status == 0, result.err
        return workdir

    return run


def evaluated(workdir, *options):
    """The report, by the command line."""
    output = workdir / "report.json"
    result = tiny.command("evaluate", f"--workdir={workdir}", f"--output={output}", *options)
    assert result.status == 0, result.err
    return json.loads(output.read_text())


# One system of every loss and parameterization, among them kernels of a table, of all similarities, with symbols, with
# masks, and with masks beside tokens. The others put the same parts together; `mdlm` is trained and sampled by
# test_system_sampling.py.
TRAINED = ("semdlm_plus", "semdlm_softmax", "hdlm", "d3pm_absorbing", "sedd_absorbing", "gidd", "ar")
# Kinds of noise that are sampled from, and parameterizations that are scored by the command.
WRITTEN = {"semdlm_softmax", "hdlm", "sedd_absorbing", "gidd", "ar"}
SCORED = {"semdlm_plus", "sedd_absorbing", "ar"}
# The code of these is that of `semdlm_nested` and `hdlm`, with another number of levels.
LIKE_OTHERS = {"semdlm_nested_deep", "tdlm"}


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name not in {*TRAINED, *LIKE_OTHERS}])
def test_has_a_loss(config_file, system):
    """Its parts fit together, and its loss is a number over all of its times; every loss is trained by another test."""
    spec = importlib.util.spec_from_file_location("tiny_config", config_file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    config = module.get_config(system)
    if system in BLOCKS:
        config.kernel.blocks = "16"
    corpus = build_run_data(config)
    objective, denoiser = build_objective(config, corpus), build_denoiser(config, corpus)
    assert objective.kernel.alpha(np.float32(0)) == pytest.approx(1, abs=1e-3)

    @jax.jit
    def loss(key, tokens):
        params = denoiser.init(key)
        batch = objective.corrupt(key, tokens, tokens >= 0)
        features = denoiser.features(params, batch.xt, batch.t)
        total, weight = objective.sums(lambda features: denoiser.logits(params, features), features, batch, key)
        return total / weight

    tokens = corpus.prepared.splits["train"][: 64 * 16].reshape(64, 16).astype(np.int32)
    assert 0 < loss(jax.random.key(0), tokens) < math.inf


@pytest.mark.parametrize("system", TRAINED)
def test_trains_scores_and_writes(run, system):
    """A system is scored over the same times as all, whatever times its own loss is drawn at: at the end of its
    training, and by the command."""
    workdir = run(system)
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/loss" in row for row in metrics) == STEPS
    (nelbo,) = [row["valid/nelbo"] for row in metrics if "valid/nelbo" in row]
    assert 0 < nelbo < math.inf
    if system in SCORED:
        report = evaluated(workdir, f"--samples={2 if system == 'ar' else 0}")
        section = report["sections"]["likelihood"]
        likelihood = section["details"]
        assert 0 < likelihood["nelbo"] < math.inf and 0 < likelihood["standard_error"] < math.inf
        assert ("exact likelihood by the chain rule" if system == "ar" else TIMES) in section["protocol"]
        if system == "ar":
            assert likelihood["prior"] == 0 and "generation" in report["sections"]
    if system not in WRITTEN:
        return
    write = ["generate", f"--workdir={workdir}", "--num_samples=1", "--steps=2", f"--output={workdir}/sample.jsonl"]
    result = tiny.command(*write)
    assert result.status == 0, result.err
    (row,) = [json.loads(line) for line in (workdir / "sample.jsonl").read_text().splitlines()]
    assert len(row["tokens"]) == 16 and not set(row["tokens"]) & {0, 1, 2, 3, 4}


def test_a_run_with_symbols_goes_on_and_is_exported(run, config_file, tmp_path):
    """Stopped and started again, and as a portable model: the same weights, text and bound."""
    workdir, whole = tmp_path / "run", run("hdlm", "--config.training.checkpoint_every=1")
    options = [f"--config={config_file}:hdlm", f"--workdir={workdir}", "--config.training.checkpoint_every=1"]
    for steps in (1, STEPS):
        result = tiny.command("train", *options, *BLOCKS["hdlm"], f"--config.training.steps={steps}")
        assert result.status == 0, result.err
    copy = tmp_path / "copy"
    result = tiny.command("export", f"--workdir={workdir}", f"--output={copy}", "--checkpoint=latest", "--split=valid")
    assert result.status == 0, result.err
    models = [sd.load(whole, checkpoint="latest"), sd.load(workdir, checkpoint="latest"), sd.load(copy)]
    assert models[0].trained.objective.kernel.num_states > models[0].trained.corpus.vocab_size
    first, *others = [(model.generate(num_samples=2, steps=3, seed=1).text, model.nelbo("of the")) for model in models]
    assert all(other == first for other in others)


def test_the_list(config_file, tmp_path):
    """Of every entry point that takes a configuration, whatever else it was given or not."""
    for module, options in (("train", []), ("train", [f"--workdir={tmp_path}/run"]), ("semantics.build", [])):
        result = tiny.command(module, f"--config={config_file}:list", *options)
        assert (result.status, result.err) == (0, "")
        lines = result.out.splitlines()
        assert [line.split()[0] for line in lines] == list(SYSTEMS)
        assert all(SYSTEMS[line.split()[0]].about in line and len(line) <= 120 for line in lines)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mdml", ["unknown system 'mdml'", "did you mean 'mdlm'"]),
        ("semdlm_plus2", ["unknown system 'semdlm_plus2'", "did you mean 'semdlm_plus'"]),
        ("zzz", ["unknown system 'zzz'", "valid names: ar, d3pm_absorbing"]),
    ],
)
def test_an_unknown_system(config_file, tmp_path, given, words):
    workdir = tmp_path / "run"
    for options in ([], ["--config.seed=1"]):
        result = tiny.command("train", f"--config={config_file}:{given}", f"--workdir={workdir}", *options)
        tiny.assert_refused(result, *words)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("base.py:mdlm", ["base.py knows no systems", "without :mdlm"]),
        ("systems.py", ["has no function get_config(system=None)"]),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, given, words):
    """Or one that knows no systems. In a process of its own: ml_collections keeps what an earlier file defined."""
    options = [f"--config={tiny.ROOT}/configs/{given}", f"--workdir={tmp_path}/run"]
    result = tiny.python("-m", "semdlm_jax.train", *options)
    tiny.assert_refused(tiny.Result(result.returncode, result.stdout, result.stderr), *words)
    assert not (tmp_path / "run").exists()


def test_a_warm_up_longer_than_the_training(tmp_path):
    """The authors' warm-up, asked for in a run far below the authors' scale."""
    small = ["data.corpus=synthetic", "data.vocab_size=64", "data.length=16", "kernel.k_max=4", "training.steps=100"]
    options = [f"--config.{option}" for option in (*small, "training.batch_size=8", "objective.chunk=0")]
    for system, warmup_steps in (("mdlm", 2500), ("gidd", 10_000)):
        given = f"--config={tiny.ROOT}/configs/lm1b.py:{system}", f"--config.optimizer.warmup_steps={warmup_steps}"
        result = tiny.command("train", *given, f"--workdir={tmp_path}/run", *options)
        tiny.assert_refused(
            result, f"{warmup_steps} warm-up steps do not fit in 100 training steps", "lower optimizer.warmup_steps"
        )
    assert not (tmp_path / "run").exists()


# Equal budgets and one bound for all: no system may touch these.
SHARED = ("seed", "data", "semantics", "training", "mesh", "evaluation")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_leaves_alone_what_all_share(system):
    """It trains from scratch, and only the autoregressive reference has a causal mask."""
    found, plain = tiny.flat(lm1b.get_config(system)), tiny.flat(lm1b.get_config())
    assert found["warmup.steps"] == 0 and found["network.causal"] == (system == "ar")
    assert not [key for key in found if found[key] != plain[key] and key.split(".")[0] in SHARED]


@pytest.mark.parametrize(
    ("system", "kept", "peak", "last"),
    [
        ("mdlm", 1 - 0.999 * 0.5, 3e-4, 3e-4),  # log-linear, eps = 1e-3
        ("sedd_uniform", math.exp(-math.sqrt(1e-4 * 20)), 3e-4, 3e-4),  # geometric, 1e-4 to 20
        ("d3pm_absorbing", 0.5, 2e-4, 2e-4),  # 1 / (T - t) a step
        ("gidd", 0.5, 5e-4, 5e-5),  # a cosine to a tenth
    ],
)
def test_noise_and_learning_rate_are_the_authors(system, kept, peak, last):
    """At the authors' scale: the share of tokens kept at t = 1/2, and the learning rate at its peak and at its end."""
    config = lm1b.get_config(system)
    alpha = SCHEDULES.pick(config.kernel.schedule.name, config.kernel.schedule).alpha(0.5)
    assert float(alpha) == pytest.approx(kept, rel=1e-5)
    learning_rate = build_optimizer(config)[1]
    steps = config.training.steps
    assert float(learning_rate(config.optimizer.warmup_steps)) == pytest.approx(peak, rel=1e-3)
    assert float(learning_rate(steps - 1)) == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_small_configuration_keeps_its_optimizer(system):
    """And gives up the warm-up that it has without a system."""
    found, plain = tiny.flat(quickstart.get_config(system)), tiny.flat(quickstart.get_config())
    assert {key: found[key] for key in found if key.startswith("optimizer.")} == {
        key: plain[key] for key in plain if key.startswith("optimizer.")
    }
    assert found["kernel.name"] == lm1b.get_config(system).kernel.name
    assert found["warmup.steps"] == 0 < plain["warmup.steps"]


def test_every_key_that_a_system_names_is_there():
    """And of the type that it has there: a locked configuration takes no other."""
    known = tiny.flat(defaults.get_config())
    for name, system in SYSTEMS.items():
        for key, value in tiny.flat(system.changes | {"optimizer": system.optimizer}).items():
            assert key in known, (name, key)
            assert type(value) is type(known[key]), (name, key)
        assert len(name) <= 18 and system.about
