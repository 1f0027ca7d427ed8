"""What every start of a run shares with its first: the record, and what may have changed since."""

import pathlib

from semdlm_jax import checks
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_optimizer
from semdlm_jax.experiment.data import RunData, check_unchanged
from semdlm_jax.experiment.load import checkpoints_of, make_reader
from semdlm_jax.experiment.portable import is_portable
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
# What may change between two starts of one run: where it runs and how often it reports, never what it computes.
FREE_KEYS = (
    "mesh",
    "evaluation",
    "data.directory",  # a path, as the next: what lies there is bound by RunData.identity
    "semantics.table",
    "network.unroll",
    "network.attention",
    "training.log_every",
    "training.eval_every",
    "training.checkpoint_every",
    "training.keep_latest",
)
# What need not be as it was at the first start; `settle_steps` sees to the last of it.
FREE = (*FREE_KEYS, *BESIDE, STEPS)


def compare(workdir: str | pathlib.Path, config) -> dict | None:
    """The record of an earlier start, None where there was none. UserError: of a run that computes something else, or
    lost while its checkpoints or metrics are there: nothing says what they come from; or of one whose checkpoints are
    lost; or of a portable model."""
    if is_portable(workdir):
        raise UserError(f"{workdir} is a portable model, which is not trained: give another work directory")
    recorded = compare_config(workdir, config.to_dict(), FREE)
    if recorded is not None:  # what may differ may still be damaged
        checks.check_recorded(recorded, workdir, trust_code=True)
    saved = bool(make_reader(workdir).steps())
    measured = None if saved else last_step(workdir)
    if recorded is None and (saved or measured is not None):
        raise UserError(
            f"{workdir} holds {'checkpoints' if saved else METRICS} but no config.json that says of which run: "
            "restore it, or give another work directory"
        )
    if recorded is not None and measured:
        every = max(recorded["training"]["checkpoint_every"], config.training.checkpoint_every)
        _begin_anew(workdir, measured, every)
    return recorded


def _begin_anew(workdir, measured, every):
    """Says that a run without checkpoints, whose metrics have come to step `measured`, begins anew. UserError where it
    had saved some by then. every: steps between two of them."""
    folder = checkpoints_of(workdir)
    # Their folder is made before the step after the first, which is on disk before the step after the second.
    if measured > every * (2 if folder.is_dir() else 1):
        raise UserError(
            f"{workdir} was trained to step {measured}, as its {METRICS} says, but its checkpoints are gone: put them "
            f"back in {folder}, or give another work directory, or remove {METRICS} to begin anew in this one"
        )
    print(f"the start before came to step {measured} and to no checkpoint: the run begins anew", flush=True)


def record(workdir: str | pathlib.Path, config, corpus: RunData, parent: dict | None) -> dict:
    """The run's record: written at its first start, compared at every other. parent: whose weights it begins with."""
    added = {TRAINED_ON: corpus.identity, TABLE_MADE: corpus.table_made, PLACES: checks.places(config)}
    found = write_config(workdir, {**config.to_dict(), **added, **({PARENT: parent} if parent else {})}, FREE)
    check_unchanged(workdir, found.get(TRAINED_ON, {}), config, corpus)
    return found


def settle_steps(workdir: str | pathlib.Path, config, recorded: dict, done: int):
    """Records another number of steps than before, and says what it does to the learning rate.

    done: steps of the run so far. UserError: the number is less than that.
    """
    steps, former = config.training.steps, recorded["training"]["steps"]
    if done > steps:
        raise UserError(
            f"{workdir} has done {done} steps, more than {STEPS} = {steps}: "
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
