"""The systems by name: each is found, built as its authors have it, trained, scored by the one bound and sampled."""

import json
import math

import pytest
import tiny

from semdlm_jax.experiment import defaults
from semdlm_jax.experiment.configs import lm1b, quickstart
from semdlm_jax.experiment.systems import SYSTEMS

STEPS = 3
TIMES = "continuous-time bound, 1 t in [0.001, 0.99999] a row"


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    """A function (system, options) -> the work directory of a short run."""

    def run(system, *options):
        workdir = tmp_path_factory.mktemp("systems") / system
        options = [f"--config.training.steps={STEPS}", *options]
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


# Every kernel is sampled from under one system of it, and every parameterization scored by the command.
WRITTEN = {"semdlm_knn", "semdlm_softmax", "semantic_mask", "sedd_uniform", "sedd_absorbing", "gidd", "unigram", "ar"}
SCORED = {"semdlm_plus", "sedd_absorbing", "ar"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_trains_scores_and_writes(run, system):
    """Every system is scored over the same times, whatever times its own loss is drawn at: at the end of its training,
    and by the command."""
    workdir = run(system)
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/loss" in row for row in metrics) == STEPS
    (nelbo,) = [row["valid/nelbo"] for row in metrics if "valid/nelbo" in row]
    assert 0 < nelbo < math.inf
    if system in SCORED:
        report = evaluated(workdir, f"--samples={2 if system == 'ar' else 0}")
        likelihood = report["likelihood"]
        assert 0 < likelihood["nelbo"] < math.inf and 0 < likelihood["standard_error"] < math.inf
        assert ("exact likelihood by the chain rule" if system == "ar" else TIMES) in report["protocol"]
        if system == "ar":
            assert likelihood["prior"] == 0 and report["samples"]["entropy_nats"]["generated"] > 0
    if system not in WRITTEN:
        return
    write = ["generate", f"--workdir={workdir}", "--num_samples=1", "--steps=2", f"--output={workdir}/sample.jsonl"]
    result = tiny.command(*write)
    assert result.status == 0, result.err
    (row,) = [json.loads(line) for line in (workdir / "sample.jsonl").read_text().splitlines()]
    assert len(row["tokens"]) == 16 and not set(row["tokens"]) & {0, 1, 2, 3, 4}


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
        ("systems.py", ["not a configuration", "get_config(system=None)"]),
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


# What the papers and their code say, each once more beside the table that is tested.
ADAMW = {
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 3e-4,
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 2500,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 1.0,
    "optimizer.ema_decay": 0.9999,
}
D3PM = ADAMW | {
    "kernel.schedule.name": "linear",
    "objective.name": "d3pm",
    "objective.parameterization": "bayes",
    "objective.timesteps": 1000,
    "network.time_conditioning": True,
    "optimizer.learning_rate": 2e-4,
    "optimizer.warmup_steps": 5000,
    "optimizer.clip_norm": 0.25,
}
SEDD = ADAMW | {
    "objective.name": "score_entropy",
    "objective.parameterization": "score",
    "objective.t_min": 1e-3,
    "objective.t_max": 1.0,
    "network.time_conditioning": True,
}
BOUND = ADAMW | {"objective.name": "nelbo", "objective.parameterization": "bayes", "objective.t_min": 1e-3}
SEMANTIC = ADAMW | {
    "objective.name": "denoising",
    "objective.lambda_changed": 1.0,
    "objective.lambda_same": 1.0,
    "network.time_conditioning": True,
}
AUTHORS = {
    "semdlm_plus": SEMANTIC | {"kernel.name": "semdlm_plus"},
    "semdlm_knn": SEMANTIC | {"kernel.name": "semantic_knn"},
    "semdlm_softmax": SEMANTIC | {"kernel.name": "semantic_softmax"},
    "semantic_mask": SEMANTIC | {"kernel.name": "semantic_mask"},
    "d3pm_uniform": D3PM | {"kernel.name": "uniform", "objective.ce_weight": 0.0},
    "d3pm_absorbing": D3PM | {"kernel.name": "absorbing", "objective.ce_weight": 0.01},
    "mdlm": BOUND
    | {
        "kernel.name": "absorbing",
        "kernel.schedule.name": "loglinear",
        "kernel.schedule.eps": 1e-3,
        "objective.t_max": 1.0,
        "network.time_conditioning": False,
    },
    "sedd_uniform": SEDD
    | {
        "kernel.name": "uniform",
        "kernel.schedule.name": "geometric",
        "kernel.schedule.sigma_min": 1e-4,
        "kernel.schedule.sigma_max": 20.0,
    },
    "sedd_absorbing": SEDD
    | {"kernel.name": "absorbing", "kernel.schedule.name": "loglinear", "kernel.schedule.eps": 1e-3},
    "gidd": ADAMW
    | {
        "kernel.name": "hybrid",
        "kernel.uniform_share": 0.1,
        "kernel.hybrid_gamma": 1.0,
        "objective.name": "gidd",
        "objective.gidd_weights": "dynamic",
        "objective.t_min": 1e-4,
        "objective.t_max": 1 - 1e-4,
        "network.time_conditioning": True,
        "optimizer.learning_rate": 5e-4,
        "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": 10_000,
        "optimizer.b2": 0.99,
        "optimizer.eps": 1e-9,
        "optimizer.weight_decay": 0.02,
        "optimizer.final_fraction": 0.1,
        "optimizer.ema_decay": 0.0,
        "network.dropout": 0.0,
    },
    "udlm": BOUND | {"kernel.name": "uniform", "kernel.schedule.name": "linear", "network.time_conditioning": True},
    "unigram": BOUND | {"kernel.name": "unigram", "kernel.prior_exponent": 1.0, "network.time_conditioning": True},
    "ar": ADAMW | {"objective.name": "autoregressive", "network.causal": True, "network.time_conditioning": False},
}
# Equal budgets and one bound for all: no system may touch these.
SHARED = ("seed", "data", "semantics", "training", "mesh", "evaluation")


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_its_authors_say(system):
    """At the paper's scale, with their optimizer; from scratch, and on what every system shares."""
    found, plain = tiny.flat(lm1b.get_config(system)), tiny.flat(lm1b.get_config())
    assert {key: found[key] for key in AUTHORS[system]} == AUTHORS[system]
    assert found["warmup.steps"] == 0 and found["network.causal"] == (system == "ar")
    changed = {key for key in found if found[key] != plain[key]}
    assert not [key for key in changed if key.split(".")[0] in SHARED]
    assert changed <= AUTHORS[system].keys() | {"objective.t_min", "objective.t_max", "kernel.schedule.name"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_small_configuration_keeps_its_optimizer(system):
    """And gives up the warm-up that it has without a system."""
    found, plain = tiny.flat(quickstart.get_config(system)), tiny.flat(quickstart.get_config())
    assert {key: found[key] for key in found if key.startswith("optimizer.")} == {
        key: plain[key] for key in plain if key.startswith("optimizer.")
    }
    assert found["kernel.name"] == AUTHORS[system].get("kernel.name", plain["kernel.name"])
    assert found["warmup.steps"] == 0 < plain["warmup.steps"]


def test_every_key_that_a_system_names_is_there():
    """And of the type that it has there: a locked configuration takes no other."""
    known = tiny.flat(defaults.get_config())
    for name, system in SYSTEMS.items():
        for key, value in tiny.flat(system.changes | {"optimizer": system.optimizer}).items():
            assert key in known, (name, key)
            assert type(value) is type(known[key]), (name, key)
        assert len(name) <= 16 and system.about
