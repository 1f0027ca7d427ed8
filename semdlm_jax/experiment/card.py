"""The model card of a portable model: what it is, how to use it, and its numbers with their protocol."""

import importlib.metadata
import pathlib
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import semdlm_jax
from semdlm_jax.evaluation.likelihood import with_error
from semdlm_jax.experiment.build import describe
from semdlm_jax.options import counted
from semdlm_jax.record import HISTORY, PARENT

CARD = """\
---
library_name: semdlm_jax
tags: [diffusion-language-model, jax]
{license_line}---
# {name}

A language model trained with semdlm_jax: kernel `{kernel}`, objective `{objective}`, parameterization
`{parameterization}`.

    python -m semdlm_jax.generate --model={name} --num_samples=4
    python -m semdlm_jax.evaluate --model={name} --text=FILE

    import semdlm_jax as sd
    print(sd.load("{name}").generate(num_samples=4).text)

`{name}` is this folder, or its name where it comes with the package.

## What it is

{facts}

## Numbers

{numbers}

Scores of another protocol, vocabulary or text do not compare with these.

## What is in the folder

* `model.safetensors`: the EMA weights ({dtype}). `config.json`: the configuration, without the trainer's paths.
* `tokenizer.*`: the vocabulary. `unigram.npy`: how often each token occurs in training.
* `neighbors.npz`: the neighbor table, if the run had one. `portable.json`: step, shape of rows, digests.

The text that it was trained on is not in it.
"""


def text(
    trained: Any,
    *,
    name: str,
    dtype: str,
    recorded: Mapping[str, float] = {},
    report: str | None = None,
    license_name: str | None = None,
) -> str:
    """The card in Markdown. trained: an experiment.load.Trained with the weights that are stored. recorded: metrics of
    its checkpoint. report: of `evaluate` on a split, with these weights."""
    config = trained.config
    return CARD.format(
        name=name,
        license_line=f"license: {license_name}\n" if license_name else "",
        kernel=config.kernel.name,
        objective=config.objective.name,
        parameterization=config.objective.parameterization,
        facts="\n".join(f"* {line}" for line in _facts(trained, license_name)),
        numbers="\n\n".join(_numbers(trained, dtype, recorded, report)),
        dtype=dtype,
    )


def _facts(trained, license_name):
    config, prepared = trained.config, trained.corpus.prepared
    training, data, tokenizer = config.training, config.data, prepared.tokenizer
    rows = f"{training.batch_size} {data.protocol} rows of {data.length} tokens a step"
    yield f"Step {trained.step:,} of {training.steps:,}, {rows}, seed {config.seed}."
    origin = re.sub(r"(?<!\S)/\S*/", "", prepared.meta["origin"])  # the paths of this machine
    yield f"Text: {origin}."
    if license_name:
        yield f"License of the weights: {license_name}."
    spelling = "lowercase" if tokenizer.lowercase else "cased"
    yield f"Vocabulary of {tokenizer.vocab_size:,} pieces, {spelling}, fingerprint {tokenizer.fingerprint[:12]}."
    size = describe(trained.params, trained.denoiser)
    yield f"{counted(config.network.layers, 'layer')} of width {config.network.width}: {size}."
    if (warmup := config.warmup).steps:
        yield f"The first {warmup.steps:,} steps: kernel `{warmup.kernel}`, objective `{warmup.objective}`."
    for change in config.get(HISTORY) or ():
        yield f"`{change['key']}` was {change['was']} until step {change['step']}, and {change['is']} from there on."
    if parent := config.get(PARENT):
        run = pathlib.Path(parent["workdir"]).name
        yield f"Began with the {parent['weights']} weights of another run, {run}, step {parent['step']}."
    commit = _commit()
    by = f"semdlm_jax {importlib.metadata.version('semdlm_jax')}"
    yield f"Exported by {by}{f', commit {commit}' if commit else ''}."


def _numbers(trained, dtype, recorded, report):
    if "valid/nelbo" in recorded:
        found = with_error(recorded["valid/nelbo"], recorded.get("valid/standard_error", float("nan")))
        yield (
            f"Recorded in training at step {trained.step:,}: NELBO {found} nats/token of the first "
            f"{counted(trained.config.evaluation.valid_batches, 'batch', 'batches')} of the valid split."
        )
    if report is not None:
        lines = "\n".join(f"    {line}" for line in report.splitlines())
        yield f"Measured with the weights that are stored here ({dtype}):\n\n{lines}"
    if "valid/nelbo" not in recorded and report is None:
        yield "None were measured."


def _commit():
    """The commit of the checkout that this package runs from, '' where there is none."""
    root = pathlib.Path(semdlm_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    found = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()
