"""Continuing a run: comparison with its record, and the keys that may differ between two starts."""

import pathlib
from typing import Any

from semdlm_jax import checks, remote
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_optimizer
from semdlm_jax.experiment.data import RunData, check_unchanged
from semdlm_jax.experiment.load import checkpoints_of, make_reader
from semdlm_jax.experiment.portable import is_portable
from semdlm_jax.options import counted
from semdlm_jax.record import (
    BESIDE,
    HISTORY,
    PARENT,
    PLACES,
    TABLE_MADE,
    TRAINED_ON,
    compare_config,
    replace_config,
    write_config,
)
from semdlm_jax.runtime.metrics import NAME as METRICS
from semdlm_jax.runtime.metrics import last_step

STEPS = "training.steps"
# Keys that may differ between two starts of a run: they change where it runs and what it reports, not what it computes
MUTABLE_ON_RESUME = (
    "mesh",
    "evaluation",
    "data.directory",  # a path, like the next key: RunData.identity guards the contents
    "semantics.table",
    "network.unroll",
    "network.attention",
    "training.log_every",
    "training.eval_every",
    "training.checkpoint_every",
    "training.keep_latest",
)
# Entries of the record that are not compared; `settle_steps` handles STEPS.
NOT_COMPARED = (*MUTABLE_ON_RESUME, *BESIDE, STEPS)


def compare(workdir: str | pathlib.Path, config: Any) -> dict | None:
    """Compares a configuration with the record of an earlier start.

    Args:
        workdir: the work directory.
        config: of this start.

    Returns:
        The record; None if the run has not started before.

    Raises:
        UserError: the recorded run computes something else; config.json is missing although checkpoints or metrics are
            there; the checkpoints are missing although the metrics show that there were some; or `workdir` is a
            portable model.
    """
    if is_portable(workdir):
        raise UserError(f"{workdir} is a portable model, which is not trained: give another work directory")
    recorded = compare_config(workdir, config.to_dict(), NOT_COMPARED)
    if recorded is not None:  # entries that are not compared may still be damaged
        checks.check_recorded(recorded, workdir, trust_code=True)
    saved = bool(make_reader(workdir).steps())
    measured = None if saved else last_step(workdir)
    if recorded is None and (saved or measured is not None):
        raise UserError(
            f"{workdir} holds {'checkpoints' if saved else METRICS} but no config.json that says of which run: "
            "restore config.json, or give another work directory"
        )
    if recorded is not None and measured:
        every = max(recorded["training"]["checkpoint_every"], config.training.checkpoint_every)
        _begin_anew(workdir, measured, every)
    return recorded


def _begin_anew(workdir, measured, every):
    """Reports that a run without checkpoints starts again at step 0.

    Args:
        workdir: its work directory.
        measured: the last step of its metrics.
        every: steps between two checkpoints.

    Raises:
        UserError: by step `measured` the run had already saved a checkpoint.
    """
    folder = checkpoints_of(workdir)
    # The folder is made right after the first save began; the first checkpoint is complete before the second save.
    # A store has no empty folders: a copy from there does not show whether a save began.
    if measured > every * (2 if remote.is_copy(workdir) or folder.is_dir() else 1):
        raise UserError(
            f"{workdir} was trained to step {measured}, as its {METRICS} says, but its checkpoints are gone: put them "
            f"back in {folder}, or give another work directory, or remove {METRICS} to begin anew in this one"
        )
    print(f"the last start came to step {measured} and saved no checkpoint: the run begins again", flush=True)


def record(workdir: str | pathlib.Path, config: Any, corpus: RunData, parent: dict | None) -> dict:
    """Writes the record of a run at its first start and compares it at every later one.

    Args:
        workdir: the work directory.
        config: of this start.
        corpus: the data of this start.
        parent: the run whose weights this one starts with, as `parent.settle` describes it; None for new weights.

    Returns:
        The record.

    Raises:
        UserError: the run was recorded with another configuration or other data.
    """
    added = {TRAINED_ON: corpus.identity, TABLE_MADE: corpus.table_made, PLACES: checks.places(config)}
    found = write_config(workdir, {**config.to_dict(), **added, **({PARENT: parent} if parent else {})}, NOT_COMPARED)
    check_unchanged(workdir, found.get(TRAINED_ON, {}), config, corpus)
    return found


def settle_steps(workdir: str | pathlib.Path, config: Any, recorded: dict, done: int) -> None:
    """Records a changed number of training steps and prints how it changes the learning rate.

    Args:
        workdir: the work directory.
        config: of this start.
        recorded: the record, which is changed in place.
        done: steps that the run has done.

    Raises:
        UserError: the new number is smaller than `done`.
    """
    steps, former = config.training.steps, recorded["training"]["steps"]
    if done > steps:
        raise UserError(
            f"{workdir} has done {counted(done, 'step')}, more than {STEPS} = {steps}: "
            f"give {done} or more, or another work directory"
        )
    if steps == former:
        return
    before = config.copy_and_resolve_references()
    before.training.steps = former
    now, then = (float(build_optimizer(one)[1](done)) for one in (config, before))
    print(
        f"{STEPS} was {former} and is {steps}: under the {config.optimizer.schedule} schedule the learning rate "
        f"of step {done + 1} is {now:.4g}, and would have been {then:.4g}",
        flush=True,
    )
    recorded["training"]["steps"] = steps
    change = {"step": done, "key": STEPS, "was": former, "is": steps}
    recorded[HISTORY] = [*recorded.get(HISTORY, []), change]
    replace_config(workdir, recorded)
