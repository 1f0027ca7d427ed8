"""What a user can get wrong: each is told in one line with its cause and its mend, and exit status 2."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from semdlm_jax.evaluation import likelihood
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.train import Run

# Refused before a work directory is begun. {folder}: that of the tiny corpus.
TRAIN = {
    "misspelled key": (["--config.optimizer.lerning_rate=1"], ["'lerning_rate'", "did you mean 'learning_rate'"]),
    "misspelled section": (["--config.optimzer.learning_rate=1"], ["'optimzer'", "did you mean 'optimizer'"]),
    "unheard-of key": (["--config.zzz=1"], ["'zzz'", "valid names: data, evaluation"]),
    "key below a value": (["--config.seed.value=1"], ["config.seed is a value"]),
    "value of another type": (
        ["--config.training.steps=many"],
        ["training.steps='many' is not a whole number", "[1, "],
    ),
    "neither yes nor no": (["--config.data.lowercase=perhaps"], ["lowercase='perhaps'", "true nor false"]),
    "value for a section": (["--config.network=3"], ["section", "--config.network."]),
    "misspelled --config": (["--confg.optimizer.learning_rate=1"], ["mean '--config.optimizer.learning_rate'"]),
    "misspelled value of a flag": (["--init_weights=eam"], ["--init_weights=eam is unknown", "mean 'ema'"]),
    "unknown flag": (["--work=here"], ["--work", "did you mean '--workdir'"]),
    "flag without dashes": (["workdir"], ["'workdir'", "--"]),
    "impossible mesh": (["--config.mesh.data=3"], ["data=3", "needs 3 devices", "give sizes"]),
    "batch in odd parts": (["--config.training.microbatches=3"], ["batch size 8", "multiple of 3, e.g. 9"]),
    "never evaluated": (["--config.training.eval_every=0"], ["training.eval_every = 0", "[1, "]),
    "no such data": (["--config.data.directory={folder}/none"], ["{folder}/none", "semdlm_jax.data.prepare"]),
    "other vocabulary": (["--config.data.vocab_size=65"], ["prepared with vocab_size = 40", "is 65"]),
    "too few neighbors": (["--config.kernel.k_max=7"], ["k_max = 7", "holds 6", "rebuild"]),
    "window beyond the text": (["--config.data.length=99998"], ["99998", "use more text"]),
    "kernel": (["--config.kernel.name=semdlm"], ["kernel.name = 'semdlm' is unknown", "did you mean 'semdlm_plus'"]),
    "objective": (["--config.objective.name=elbo"], ["objective.name = 'elbo' is unknown", "'nelbo'"]),
    "parameterization": (
        ["--config.objective.parameterization=bays"],
        ["parameterization = 'bays' is unknown", "'bayes'"],
    ),
    "optimizer": (["--config.optimizer.name=adam"], ["optimizer.name = 'adam' is unknown", "'adamw'"]),
    "schedule": (["--config.optimizer.schedule=cosinus"], ["optimizer.schedule = 'cosinus' is unknown", "'cosine'"]),
    "warm-up kernel": (["--config.warmup.kernel=absorbin"], ["warmup.kernel = 'absorbin' is unknown", "'absorbing'"]),
    "direct warm-up": (
        ["--config.objective.parameterization=direct"],
        ["warmup.steps = 6", "'bayes'", "set warmup.steps = 0"],
    ),
    "autoregressive warm-up": (
        ["--config.objective.name=autoregressive", "--config.network.causal=true"],
        ["warmup.steps = 6", "'bayes'", "set warmup.steps = 0"],
    ),
    "nothing at unchanged positions": (["--config.objective.lambda_same=0"], ["lambda_same must be above 0"]),
    "nothing at changed positions": (["--config.objective.lambda_changed=0"], ["lambda_changed = 0.0", "(0, "]),
    "negative rate": (["--config.optimizer.learning_rate=-1"], ["optimizer.learning_rate = -1.0", "(0, 1000]"]),
    "heads that do not divide": (["--config.network.heads=3"], ["width 32", "3 heads"]),
    "number format": (["--config.network.dtype=float16"], ["float16", "bfloat16"]),
    "no heads": (["--config.network.heads=0"], ["network.heads = 0", "[1, "]),
    "all dropped": (["--config.network.dropout=1"], ["network.dropout = 1", "[0, 1)"]),
    "negative temperature": (["--config.evaluation.temperature=-1"], ["temperature = -1", "0"]),
    "impossible sampling": (["--config.evaluation.strides=3"], ["strides = 3", "length = 16"]),
    "misspelled nested key": (
        ["--config.kernel.schedule.epss=0.1"],
        ["config.kernel.schedule", "'epss'", "mean 'eps'"],
    ),
    "value for a nested section": (["--config.kernel.schedule=cosine"], ["section", "--config.kernel.schedule."]),
    "key of another section": (["--config.kernel.eps=0.1"], ["config.kernel has no key 'eps'"]),
    "noise schedule": (
        ["--config.kernel.schedule.name=liner"],
        ["schedule.name = 'liner' is unknown", "mean 'linear'"],
    ),
    "noise without an end": (
        ["--config.kernel.schedule.name=geometric", "--config.kernel.schedule.sigma_min=30"],
        ["'geometric'", "sigma_min < sigma_max", "30"],
    ),
    "global prior": (["--config.kernel.prior=unigrm"], ["kernel.prior = 'unigrm' is unknown", "'unigram'"]),
    "nothing so frequent": (
        ["--config.kernel.prior=unigram", "--config.kernel.min_count=99999"],
        ["no token occurs 99999 times", "lower"],
    ),
    "power of the prior": (
        ["--config.kernel.prior=unigram", "--config.kernel.prior_exponent=2"],
        ["kernel.prior_exponent = 2.0", "(0, 1]"],
    ),
    "kernel of one's own": (
        ["--config.kernel.name=nowhere:kernel"],
        ["kernel 'nowhere:kernel': there is no module nowhere", "where Python finds nowhere.py"],
    ),
    "module without the kernel": (
        ["--config.kernel.name=json:kernel"],
        ["'json:kernel': json has no kernel", "extends"],
    ),
    "causal diffusion": (["--config.network.causal=True"], ["'denoising' needs network.causal = False"]),
    "chain rule of what is seen": (
        ["--config.objective.name=autoregressive", "--config.warmup.steps=0"],
        ["'autoregressive' needs network.causal = True"],
    ),
    "bound from nowhere": (["--config.evaluation.t_min=0"], ["evaluation.t_min = 0.0", "[1e-9, 1)"]),
    "bound beyond the end": (["--config.evaluation.t_max=1.5"], ["evaluation.t_max = 1.5", "(0, 1]"]),
    "bound over nothing": (["--config.evaluation.t_min=0.99999"], ["t_min = 0.99999 and evaluation.t_max = 0.99999"]),
    "times over nothing": (["--config.objective.t_min=0.999999"], ["t_min < t_max", "t_min = 0.999999"]),
    "scores of neighbors": (
        ["--config.objective.name=score_entropy", "--config.objective.parameterization=score"],
        ["'score_entropy'", "only jump", "'uniform'"],
    ),
    "scores without their loss": (["--config.objective.parameterization=score"], ["'denoising'", "'score_entropy'"]),
    "score entropy of a posterior": (["--config.objective.name=score_entropy"], ["'score_entropy'", "'bayes'"]),
    "gidd of another kernel": (["--config.objective.name=gidd"], ["'gidd'", "needs kernel 'hybrid'"]),
    "gidd's weights": (["--config.objective.gidd_weights=dynamo"], ["gidd_weights = 'dynamo' is unknown", "'dynamic'"]),
    "gidd's share": (
        ["--config.kernel.name=hybrid", "--config.kernel.uniform_share=1"],
        ["kernel.uniform_share = 1.0", "[0, 1)"],
    ),
    "no step at all": (
        ["--config.objective.name=d3pm", "--config.objective.timesteps=0"],
        ["objective.timesteps = 0", "[1, "],
    ),
    "fewer than no samples": (["--config.objective.y_samples=-1"], ["objective.y_samples = -1", "[0, "]),
    "temperature of the softmax": (
        ["--config.kernel.name=semantic_softmax", "--config.kernel.tau_min=0"],
        ["kernel.tau_min = 0.0", "[0.001, "],
    ),
}


@pytest.mark.parametrize("case", TRAIN)
def test_training(config_file, tmp_path, case):
    arguments, words = TRAIN[case]
    folder = config_file.parent
    arguments = [argument.format(folder=folder) for argument in arguments]
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}", *arguments)
    tiny.assert_refused(result, *(word.format(folder=folder) for word in words))
    assert not (tmp_path / "run").exists()


def test_training_without_the_needed(config_file, tmp_path):
    tiny.assert_refused(tiny.command("train", "--workdir=run"), "--config is missing", "configs/quickstart.py")
    tiny.assert_refused(tiny.command("train", f"--config={config_file}"), "--workdir is missing", "directory")
    for given in (["--config=none.py"], ["--config", "none.py"], ["--config=none.py:mdlm", "--config.seed=1"]):
        tiny.assert_refused(tiny.command("train", *given, "--workdir=run"), "none.py", "no such file", "quickstart")


def test_a_file_as_work_directory(config_file):
    for module, given in (("train", [f"--config={config_file}"]), ("generate", []), ("evaluate", [])):
        result = tiny.command(module, *given, f"--workdir={config_file}")
        tiny.assert_refused(result, str(config_file), "is a file", "directory")


def test_a_run_of_another_config(config_file, whole_run):
    arguments = ["--config.seed=3", "--config.network.width=16", "--config.mesh.data=1"]
    result = tiny.command("train", f"--config={config_file}", f"--workdir={whole_run}", *arguments)
    tiny.assert_refused(result, "network.width is 16 and was 32", "seed is 3 and was 0", "another workdir")
    assert "mesh" not in result.err


def test_a_table_of_another_vocabulary(config_file, tmp_path):
    shutil.copytree(config_file.parent / "data", tmp_path / "data")
    with np.load(tmp_path / "data" / "neighbors.npz") as table:
        arrays = dict(table)
    np.savez(tmp_path / "data" / "neighbors.npz", **arrays | {"fingerprint": np.array("f" * 64)})
    arguments = [f"--config={config_file}", f"--config.data.directory={tmp_path}/data", f"--workdir={tmp_path}/run"]
    tiny.assert_refused(tiny.command("train", *arguments), "ffffffffffff", "semdlm_jax.semantics.build")
    (tmp_path / "data" / "neighbors.npz").unlink()
    tiny.assert_refused(tiny.command("train", *arguments), "no neighbor table", "semdlm_jax.semantics.build")


def test_preparing(config_file, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "short.txt").write_text("one paragraph")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for corpus, words in (
        (f"text:{tmp_path}/empty.txt", ["empty"]),
        (f"text:{tmp_path}/*.md", ["no file matches", "glob"]),
        (f"text:{tmp_path}/short.txt", ["leaves no text for valid", "more"]),
        (f"text:{tmp_path}/bytes.txt", ["not UTF-8", "convert"]),
        ("stou", ["data.corpus = 'stou' is unknown", "'sotu'"]),
        ("synthetic", ["nothing to prepare"]),
    ):
        data = [f"--config.data.corpus={corpus}", f"--config.data.directory={tmp_path}/data"]
        tiny.assert_refused(tiny.command("data.prepare", f"--config={config_file}", *data), *words)
    # The tiny corpus is prepared already.
    result = tiny.command("data.prepare", f"--config={config_file}", "--config.data.vocab_size=50")
    tiny.assert_refused(result, "vocab_size (40, now 50)", "remove the directory")
    elsewhere = f"--config.data.directory={tmp_path}/elsewhere"
    result = tiny.command("data.prepare", f"--config={config_file}", elsewhere, "--config.data.vocab_size=9999")
    tiny.assert_refused(result, "vocab_size = 9999", "or less")
    result = tiny.command("semantics.build", f"--config={config_file}", elsewhere)
    tiny.assert_refused(result, "elsewhere", "semdlm_jax.data.prepare")


GENERATE = {
    "prompt beyond the context": (["--prompt=" + "word " * 99], ["prompt", "context holds 16", "shorten"]),
    "fewer steps than strides": (["--steps=2", "--strides=4"], ["steps = 2", "strides = 4"]),
    "strides that do not divide": (["--strides=3"], ["strides = 3", "divide", "16"]),
    "no strides": (["--strides=0"], ["--strides=0"]),
    "negative temperature": (["--temperature=-1"], ["--temperature=-1", "[0, "]),
    "nothing to draw": (["--num_samples=0"], ["--num_samples=0", "[1, "]),
    "no batch": (["--batch_size=0"], ["--batch_size=0", "[1, "]),
    "not a number": (["--steps=many"], ["--steps=", "many", "whole number"]),
    "sampler": (["--sampler=ancestor"], ["'ancestor'", "'ancestral'"]),
    "checkpoint": (["--checkpoint=last"], ["--checkpoint=last", "latest"]),
}
EVALUATE = {
    "split": (["--split=tset"], ["--split=tset", "test"]),
    "missing text": (["--text={folder}/none.txt"], ["none.txt", "cannot be read", "give the path"]),
    "binary text": (["--text={folder}/data/neighbors.npz"], ["neighbors.npz", "write its text as"]),
    "empty text": (["--text={folder}/empty.txt"], ["empty.txt", "empty"]),
    "no draws": (["--draws=0"], ["--draws=0", "[1, "]),
    "negative samples": (["--samples=-1"], ["--samples=-1", "0"]),
}


@pytest.mark.parametrize("case", GENERATE)
def test_generating(whole_run, case):
    arguments, words = GENERATE[case]
    tiny.assert_refused(tiny.command("generate", f"--workdir={whole_run}", *arguments), *words)


@pytest.mark.parametrize("case", EVALUATE)
def test_evaluating(config_file, whole_run, case):
    arguments, words = EVALUATE[case]
    (config_file.parent / "empty.txt").write_text(" \n")
    arguments = [argument.format(folder=config_file.parent) for argument in arguments]
    tiny.assert_refused(tiny.command("evaluate", f"--workdir={whole_run}", *arguments), *words)


@pytest.mark.parametrize("module", ["generate", "evaluate"])
def test_using_a_run(config_file, whole_run, tmp_path, module):
    tiny.assert_refused(tiny.command(module), "--workdir is missing", "training run")
    tiny.assert_refused(tiny.command(module, f"--workdir={tmp_path / 'none'}"), "config.json", "training run")
    output = ["--output", whole_run / "none" / "out.json"]
    # Refused before anything is read: the work directory does not exist either.
    tiny.assert_refused(tiny.command(module, "--workdir=none", *output), "none/out.json", "make it first")
    tiny.assert_refused(tiny.command(module, "--workdir=none", "--output", tmp_path), str(tmp_path), "is a directory")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(whole_run / "config.json", begun)
    tiny.assert_refused(tiny.command(module, f"--workdir={begun}"), "no checkpoint", "semdlm_jax.train")
    moved = json.loads((whole_run / "config.json").read_text())
    moved["data"]["directory"] = moved["places"]["data"]["directory"] = str(tmp_path / "gone")
    (begun / "config.json").write_text(json.dumps(moved))
    tiny.assert_refused(tiny.command(module, f"--workdir={begun}"), "gone", "--data_directory")


def test_reading_the_numbers_of_a_step_gives_the_device_no_work():
    """It would be done after the step dispatched meanwhile, and the batch of the next could only be made then."""
    metrics = {"loss": jnp.float32(1.5), "grad_norm": jnp.float32(0.25)}
    with jax.transfer_guard("disallow"):
        assert Run._checked(None, 1, metrics) == {"loss": 1.5, "grad_norm": 0.25}


def test_a_bound_that_is_no_number(config_file, whole_run, tmp_path, monkeypatch):
    """The averaged parameters are spoilt though the loss is not: they are not kept."""
    workdir, bound = tmp_path / "run", SimpleNamespace(nelbo=float("nan"), standard_error=0.1)
    shutil.copytree(whole_run, workdir)
    shutil.rmtree(workdir / "checkpoints" / "12")
    monkeypatch.setattr(likelihood, "evaluate_likelihood", lambda *arguments, **options: bound)
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}")
    tiny.assert_refused(result, "valid NELBO not finite at step 12", "last good checkpoint is step 10")
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["10", "5"]


def test_a_loss_that_is_no_number(config_file, whole_run, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(whole_run, workdir)
    for step in ("10", "12"):
        shutil.rmtree(workdir / "checkpoints" / step)
    restore = Checkpointer.restore

    def diverged(*arguments, **options):
        state, step = restore(*arguments, **options)
        return dataclasses.replace(state, params=jax.tree.map(lambda x: x * jnp.nan, state.params)), step

    monkeypatch.setattr(Checkpointer, "restore", diverged)
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}")
    words = "loss not finite at step 6", "grad_norm and", "last good checkpoint is step 5", "lower the learning rate"
    tiny.assert_refused(result, *words)
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["5"]
