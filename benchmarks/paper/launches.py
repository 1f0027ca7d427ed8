"""The paper at its own scale: what to start, and how long it would take on one card."""

import shlex

from benchmarks.paper.scales import SCALES
from benchmarks.paper.systems import AUTHORS, entries
from semdlm_jax import config_flag

# Tokens a second of a training step on one H200 (benchmarks/results/accelerator.md), of SemDLM+ alone.
SPEEDS = {"lm1b": 387_551, "openwebtext": 282_117}


def script() -> str:
    """A shell script: a line for every run of every system on both corpora, each followed by its evaluation."""
    lines = ["#!/bin/sh", "# Projected hours are those of the training steps of SemDLM+ on one H200, measured alone."]
    for name, speed in SPEEDS.items():
        config = config_flag.parse_config(f"configs/{name}.py")
        training = config.training
        hours = training.steps * training.batch_size * config.data.length / speed / 3600
        lines.append(f"\n# {name}: {training.steps:,} steps a run, {hours:.1f} hours each")
        for (_, kind), entry in entries(SCALES["cpu"]).items():
            if kind == AUTHORS:
                workdir = f"runs/{name}-{entry.system}"
                train = ["python", "-m", "semdlm_jax.train", f"--config=configs/{name}.py:{entry.system}"]
                lines.append(f"{shlex.join(train)} --workdir={workdir}")
                lines.append(f"python -m semdlm_jax.evaluate --workdir={workdir} --output={workdir}/report.json")
    return "\n".join(lines)
