"""What is told of a configuration that can be trained but is not what it seems, and how a run finds its data."""

import json
import re
import shutil

import pytest
import tiny

from semdlm_jax import checks
from semdlm_jax.experiment import systems
from semdlm_jax.experiment.configs import lm1b, openwebtext, quickstart
from semdlm_jax.options import flatten

CONFIGS = [quickstart, lm1b, openwebtext]


@pytest.mark.parametrize("module", CONFIGS, ids=lambda module: module.__name__)
def test_the_configurations_say_nothing_in_vain(module):
    assert checks.tell_unread(module.get_config(), {}, module.get_config()) == ""
    for name in systems.SYSTEMS:
        # What the command line sets of a system's own choice is read, whatever the file sets for others.
        config, system = module.get_config(name), systems.SYSTEMS[name]
        own = flatten({**system.changes, "optimizer": {}})
        assert checks.tell_unread(config, own) == "", name


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"kernel.name": "hybrid"}, "kernel.gamma", True),
        ({"kernel.name": "hybrid"}, "kernel.hybrid_gamma", False),
        ({"kernel.name": "hybrid", "warmup.steps": 9, "warmup.kernel": "semdlm_plus"}, "kernel.gamma", False),
        ({"kernel.prior": "uniform"}, "kernel.prior_exponent", True),
        ({"kernel.prior": "unigram"}, "kernel.prior_exponent", False),
        ({"kernel.name": "unigram"}, "kernel.prior_exponent", False),
        ({"kernel.schedule.name": "cosine"}, "kernel.schedule.sigma_max", True),
        ({"kernel.schedule.name": "cosine"}, "kernel.schedule.eps", False),
        ({"objective.name": "nelbo"}, "objective.lambda_same", True),
        ({"objective.name": "denoising"}, "objective.lambda_same", False),
        ({"objective.name": "nelbo"}, "objective.y_samples", False),
        ({"objective.name": "autoregressive"}, "objective.t_min", True),
        ({"objective.name": "autoregressive"}, "kernel.gamma", True),
        ({"objective.name": "autoregressive"}, "objective.chunk", False),
        ({"warmup.steps": 0}, "warmup.kernel", True),
        ({"optimizer.name": "adamw"}, "optimizer.muon_momentum", True),
        ({"optimizer.schedule": "cosine"}, "optimizer.decay_fraction", True),
        ({"semantics.embeddings": "package:x"}, "semantics.window", True),
        ({"semantics.hubness": "csls"}, "semantics.max_in_degree", True),
    ],
)
def test_a_key_that_nothing_reads_is_told(changes, key, told):
    config = CONFIGS[1].get_config()
    config.update_from_flattened_dict(changes)
    assert (f"nothing reads {key} = " in checks.tell_unread(config, {key: None})) == told
    own_file = CONFIGS[1].get_config()
    own_file.update_from_flattened_dict(changes)
    if told and key == "kernel.gamma":
        own_file.kernel.gamma = 3.0  # a file of the user's own, which names no system
        assert "nothing reads kernel.gamma = 3.0" in checks.tell_unread(own_file, {}, own_file)


def test_a_table_that_was_built_otherwise_is_told():
    config = CONFIGS[0].get_config()
    config.semantics.window = 8
    made = {"window": 4, "neighbors": 32}
    assert "semantics.window = 8 (it has 4)" in checks.tell_table(config, ["semantics.window"], made)
    assert checks.tell_table(config, ["semantics.neighbors"], made) == checks.tell_table(config, [], made) == ""


@pytest.mark.parametrize("module", CONFIGS, ids=lambda module: module.__name__)
@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_a_smoke_run_has_room_for_its_warmup(module, steps):
    config, before = module.get_config(), module.get_config().training.steps
    config.training.steps = steps
    line = checks.fit_warmup(config, {"training.steps": before})
    optimizer = config.optimizer
    assert optimizer.warmup_steps < steps and config.warmup.steps < steps
    assert optimizer.schedule != "wsd" or optimizer.decay_fraction <= 1 - optimizer.warmup_steps / steps
    assert f"training.steps = {steps} instead of {before}" in line and "optimizer.warmup_steps = " in line


def test_what_fits_or_was_asked_for_stays():
    config = CONFIGS[0].get_config()
    config.training.steps = 800
    assert checks.fit_warmup(config, {"training.steps": 2800}) == ""
    config.training.steps = 40
    given = {"training.steps": 2800, "optimizer.warmup_steps": 50, "warmup.steps": 400}
    assert checks.fit_warmup(config, given) == ""
    assert (config.optimizer.warmup_steps, config.warmup.steps) == (50, 400)


def test_stages_shrink_with_the_steps_and_stay_as_the_run_began():
    def fitted(steps, recorded=None):
        config = CONFIGS[0].get_config()
        config.training.steps = steps
        checks.fit_warmup(config, {"training.steps": 2800} if steps < 2800 else {}, recorded and recorded.to_dict())
        return config

    begun = fitted(500)
    assert (begun.warmup.steps, begun.optimizer.warmup_steps) == (72, 50)  # 400 would have left 100 steps to the rest
    assert fitted(2800, begun).warmup.steps == 72
    grown = begun.to_dict() | {"history": [{"step": 500, "key": "training.steps", "was": 500, "is": 900}]}
    grown["training"]["steps"] = 900
    config = CONFIGS[0].get_config()
    assert "warmup.steps = 72" in checks.fit_warmup(config, {}, grown)
    whole = fitted(2800)
    whole.training.steps = 500  # begun when 400 were left as they are
    assert fitted(500, whole).warmup.steps == 400


def test_a_run_tells_its_stages(whole_run):
    told = (whole_run.parent / "told").read_text()
    assert "masked text until step 6 (kernel absorbing, loss nelbo), then kernel semdlm_plus, loss denoising" in told
    assert "step 6: the warm-up is over; from here on the loss is that of another kernel" in told
    assert re.search(r"step 12: valid NELBO [\d.]+ ± [\d.]+ nats/token$", told, re.M)
    rows = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "train/loss" in row]
    timed = ["train/tokens_per_second" in row and "train/teraflops_per_second" in row for row in rows]
    assert timed == [False, *[True] * 11]  # the first step compiles
    assert not any("train/mfu" in row for row in rows)  # nobody knows what a CPU could do


def test_a_project_of_weights_and_biases_needs_its_package(config_file, tmp_path):
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}/run", "--wandb=toy")
    tiny.assert_refused(result, "--wandb=toy needs wandb, not installed here: pip install 'semdlm_jax[wandb]'")
    assert not (tmp_path / "run").exists()


def test_a_smoke_run(config_file, tmp_path):
    """The whole command; what is set by hand and impossible is refused as ever."""
    arguments = [
        f"--config={config_file}",
        f"--workdir={tmp_path}/run",
        "--config.training.steps=2",
        "--config.warmup.steps=0",
    ]
    refused = tiny.command("train", *arguments, "--config.optimizer.warmup_steps=2")
    tiny.assert_refused(refused, "2 warm-up steps do not fit in 2 training steps")
    run = tiny.command("train", *arguments, "--config.optimizer.muon_momentum=0.9")
    assert run.status == 0, run.err
    notes = [line for line in run.out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: with training.steps = 2 instead of 12: optimizer.warmup_steps = 1",
        "note: nothing reads optimizer.muon_momentum = 0.9 under what else is chosen here",
    ]
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["optimizer"]["warmup_steps"] == 1
    # Later with more steps, into which the warm-up would fit: it stays as it was.
    arguments[2] = "--config.training.steps=3"
    config, recorded["training"]["steps"] = CONFIGS[0].get_config(), 40
    config.training.steps = 60
    note = checks.fit_warmup(config, {"training.steps": 2800}, recorded)
    assert note.startswith("note: as at the first start of this run, with training.steps = 40 instead of 2800: ")
    grown = tiny.command("train", *arguments, "--config.optimizer.muon_momentum=0.9", "--config.seed=5")
    tiny.assert_refused(grown, "holds a run of another config (seed is 5 and was 0)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: [], "holds [], which is no configuration"),
        (lambda record: 3, "holds 3, which is no configuration"),
        (lambda record: record | {"kernel": 3}, "is damaged, kernel is 3"),
        (lambda record: {key: value for key, value in record.items() if key != "data"}, "lacks data.corpus"),
        (lambda record: record | {"seed": -1}, "config.json: seed = -1"),
        # One bit flipped: what is missing would otherwise have the meaning it had before it was recorded.
        (
            lambda record: record | {"objective": {"time_pow%r": 1.0, **record["objective"]}},
            "config.json has a key 'objective.time_pow%r', which no run has",
        ),
        (
            lambda record: record | {"kernel": record["kernel"] | {"gamma": float("nan")}},
            "config.json: kernel.gamma = nan",
        ),
        (lambda record: record | {"kernel": record["kernel"] | {"name": "os:system"}}, "is no kernel"),
        (lambda record: record | {"kernel": record["kernel"] | {"name": "this:kernel"}}, "--trust_code"),
    ],
)
def test_a_record_of_any_shape(change, words, tmp_path):
    record = CONFIGS[0].get_config().to_dict()
    record["data"]["directory"] = str(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps(change(record)))
    tiny.assert_refused(tiny.command("generate", f"--workdir={tmp_path}"), words)


def test_the_current_directory_is_told_like_any_other(config_file, tmp_path, monkeypatch):
    (tmp_path / "letter.txt").write_text("dear reader")
    monkeypatch.chdir(tmp_path)
    prepare = tiny.command("data.prepare", f"--config={config_file}", "--config.data.directory=.")
    tiny.assert_refused(prepare, str(tmp_path), "prepared data incomplete")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_run_finds_its_data_from_elsewhere(config_file, whole_run, tmp_path, monkeypatch):
    """Recorded with a path that leads nowhere from here: by the absolute one, or by --data_directory."""
    record = json.loads((whole_run / "config.json").read_text())
    here = record["data"]["directory"]
    assert record["places"]["data"]["directory"] == here == str(config_file.parent / "data")
    shutil.copytree(whole_run, tmp_path / "run")
    record["data"]["directory"] = "data/tiny"
    monkeypatch.chdir(tmp_path)
    command = ["generate", f"--workdir={tmp_path}/run", "--num_samples=1", "--steps=1"]

    def generate(*more, **changes):
        (tmp_path / "run" / "config.json").write_text(json.dumps(record | changes))
        return tiny.command(*command, *more)

    for places in ({}, {"data": 3}, {"data": {"directory": 3}}):
        tiny.assert_refused(generate(places=places), "data/tiny: no prepared data")
    tiny.assert_refused(generate("--data_directory=gone"), "gone: no prepared data", "--data_directory (in Python")
    for result in (generate(f"--data_directory={here}", places={}), generate()):
        assert result.status == 0, result.err
    train = [f"--config={config_file}", f"--workdir={tmp_path}/run", "--config.data.directory=gone"]
    result = tiny.command("train", *train[:2], f"--data_directory={here}")
    assert result.status == 0 and "is trained to its 12 steps" in result.out, result.err
    tiny.assert_refused(tiny.command("train", *train), "gone: no prepared data")
    result = tiny.command("train", *train[:2], "--config.data.directory=data/tiny")
    assert result.status == 0 and "is trained to its 12 steps" in result.out, result.err


def test_a_dry_run_tells_and_writes_nothing(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [f"--config={config_file}", "--dry_run", "--config.mesh.data=1"]
    result = tiny.command("train", *options)
    assert (result.status, result.err) == (0, "")
    stages, *lines = result.out.splitlines()
    assert stages.startswith("masked text until step 6")
    assert "parameters in the network" in lines[0] and lines[1].startswith("12 steps of 128 tokens, 1,536 in all")
    memory = re.search(r"1 device .*: (\S+) MiB of weights, averages and moments, (\S+) MiB while", lines[3])
    assert 0 < float(memory[1]) < float(memory[2])
    assert re.match(r"[\d,]+ tokens/s \(median of 3 steps\): 0:0", lines[4]) and not list(tmp_path.iterdir())
    tiny.assert_refused(tiny.command("train", options[0]), "--workdir is missing")
    tiny.assert_refused(
        tiny.command("train", *options, "--config.training.batch_size=9", "--config.mesh.data=2"), "mesh"
    )


def test_the_doctor_says_what_is_here_and_what_is_missing(config_file, tmp_path):
    well = tiny.command("doctor", f"--config={config_file}")
    assert "compiled programs kept: " in well.out
    assert (well.status, well.err) == (0, "") and "missing" not in well.out
    for words in (
        "jax ",
        "extra run: complete",
        "device: cpu",
        "mesh: data=1 x fsdp=1 x tensor=1",
        "vocabulary of 40",
        "partitions: 16, 8, 4",
    ):
        assert words in well.out
    given = [f"--config={config_file}", f"--config.data.directory={tmp_path}/none", "--config.mesh.data=3"]
    ill = tiny.command("doctor", *given)
    assert (ill.status, ill.err) == (1, "")
    prepare, build = (
        f"python -m semdlm_jax.{program} {' '.join(given)}" for program in ("data.prepare", "semantics.build")
    )
    assert 0 < ill.out.index(prepare) < ill.out.index(build)  # commands that can be given as they are, in their order
    for words in ("mesh: mesh data=3", f"neighbor table: {tmp_path}/none", f"data: {tmp_path}/none: no prepared data"):
        assert f"missing: {words}" in ill.out  # all of it, not the first alone
    mdlm = tiny.command("doctor", f"--config={config_file}:mdlm", f"--config.data.directory={tmp_path}/none")
    assert "neighbor table: none, and kernel absorbing needs none" in mdlm.out
    chain = tiny.command("doctor", f"--config={config_file}:ar", f"--config.data.directory={tmp_path}/none")
    assert "neighbor table: none, and this objective needs none" in chain.out
    assert tiny.command("doctor").status == 0 and not list(tmp_path.iterdir())


def test_a_configuration_without_its_ending_is_guessed(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(config_file.parent)
    found = tiny.command("train", f"--config={config_file.stem}", f"--workdir={tmp_path}/run")
    tiny.assert_refused(found, f"--config={config_file.stem}: no such file: did you mean {config_file.name}?")
