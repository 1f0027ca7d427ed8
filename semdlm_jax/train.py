"""Trains a diffusion language model.

    python -m semdlm_jax.train --config=configs/quickstart.py --workdir=runs/quickstart

Any key of the configuration can be changed: --config.optimizer.learning_rate=1e-3. A second start of the same command
continues where the first stopped, also with more --config.training.steps. SIGTERM saves a checkpoint and exits with
status 0. The work directory receives config.json, checkpoints/, metrics.jsonl and tensorboard/.

    --init_from=runs/quickstart:best            starts a new run, with its own keys, from the weights of that run
"""

import contextlib
import math
import pathlib
import sys
from typing import Any

import jax
from absl import flags

from semdlm_jax import checks, cli, config_flag, continuing, dry_run, parent, remote, workplace
from semdlm_jax.data.pipeline import eval_batches, scored_rows
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import evaluate_likelihood, with_error
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_rows, build_run_data, train_iterator
from semdlm_jax.experiment.load import make_checkpointer
from semdlm_jax.extras import require
from semdlm_jax.network.cost import training_operations
from semdlm_jax.options import counted
from semdlm_jax.record import find_config
from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.lock import check_free, check_shared, training_lock
from semdlm_jax.runtime.mesh import check_batch, place_batch, place_local
from semdlm_jax.runtime.metrics import MetricWriter, check_place
from semdlm_jax.runtime.preemption import GracefulStop
from semdlm_jax.runtime.processes import check_same
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.runtime.speed import Speed
from semdlm_jax.runtime.startup import leave_on_request
from semdlm_jax.runtime.state import abstract_state, create_state
from semdlm_jax.runtime.tracking import Tracker
from semdlm_jax.train_step import configured_step


class Run:
    """One training run, from its first step to its last. Its work directory is locked until `close`."""

    def __init__(self, config: Any, workdir: str | pathlib.Path, initial: parent.Request | None = None):
        """Builds or restores the run.

        Args:
            config: a ConfigDict.
            workdir: the work directory, created if missing.
            initial: another run whose weights a new run starts with.

        Raises:
            UserError: an impossible configuration, missing data, or a work directory that cannot be used.
        """
        self.config, self.workdir = config, pathlib.Path(workdir)
        checks.check_config(config)
        checks.check_workdir(workdir, written=True)
        check_free(workdir)
        recorded = continuing.compare(workdir, config)
        if recorded is not None:
            checks.find_data(config, recorded)
        self.mesh = build.build_mesh(config)
        check_batch(config.training.batch_size, config.training.microbatches, self.mesh)
        self.corpus = build_run_data(config)
        check_same(self.corpus.identity)
        self.objective = build.build_objective(config, self.corpus)
        self.stages = build.build_stages(config, self.corpus)
        self.denoiser = build.build_denoiser(config, self.corpus)
        self.optimizer, self.learning_rate = build.build_optimizer(config)
        self.iterator = train_iterator(config, self.corpus, self.mesh)
        prepared = self.corpus.prepared
        self.valid_rows = None if prepared is None else build_rows(config, prepared, "valid")
        self.checkpointer = make_checkpointer(config, self.workdir)
        self.saved_step = None
        init, place = build.build_init(self.denoiser, self.corpus), build.shard_rule(self.mesh)
        abstract = abstract_state(init, self.optimizer, place)
        origin = parent.settle(initial, recorded, config, self.corpus, abstract)
        with contextlib.ExitStack() as stack:
            self._check_held = stack.enter_context(training_lock(self.workdir))
            check_place(workdir)
            if workplace.is_shared(workdir):
                check_shared(workdir)
            record = continuing.record(workdir, config, self.corpus, origin)
            self.state = self._restore_or_create(abstract, init, origin)
            continuing.settle_steps(workdir, config, record, int(self.state.step))
            self._held = stack.pop_all()
        self._compile()

    def _compile(self):
        config = self.config
        self.train_step = configured_step(config, self.stages, self.denoiser, self.optimizer, self.mesh, self.state)
        self.score = build.build_score(config, self.denoiser, self.objective, self.mesh)

    def _restore_or_create(self, abstract, init, origin):
        restored = self.checkpointer.restore(abstract, self.iterator)
        if restored is None:
            if origin is not None:
                return parent.begin(origin, self.optimizer, abstract)
            place = build.shard_rule(self.mesh)
            return create_state(init, self.optimizer, jax.random.key(self.config.seed), place)
        state, self.saved_step = restored
        print(f"continuing {remote.origin(self.workdir)} from step {self.saved_step}", flush=True)
        return state

    def validate(self) -> dict[str, float]:
        """{nelbo, standard_error} of the first rows of the valid split under the EMA parameters; {} without text."""
        evaluation = self.config.evaluation
        if self.valid_rows is None:
            return {}
        limit = evaluation.valid_batches * evaluation.batch_size  # of rows: the same ones on any mesh
        batches = eval_batches(self.valid_rows, build.whole_rows(evaluation.batch_size, self.mesh), limit)
        result = evaluate_likelihood(
            self.score,
            self.state.ema_params,
            batches,
            scored_rows(self.valid_rows, limit),
            place=lambda batch: place_batch(batch, self.mesh),
        )
        values = {"nelbo": result.nelbo, "standard_error": result.standard_error}
        return {name: value for name, value in values.items() if value is not None}

    def save(self, step: int, metrics: dict[str, float] | None = None) -> None:
        """Starts to save a checkpoint. StorageError: it cannot be written, or the work directory was removed."""
        self._check_held()
        self.checkpointer.save(step, self.state, self.iterator, metrics)
        self.saved_step = step

    def close(self) -> None:
        """Releases the work directory."""
        self._held.close()

    def loop(self, tracker: Tracker | None = None) -> bool:
        """Trains to the last step, or until all processes agree to stop; returns whether it reached the last step.

        tracker: also receives the metrics.
        """
        training = self.config.training
        first = int(self.state.step)
        tokens_a_step, warmup = training.batch_size * self.config.data.length, self.config.warmup.steps
        operations = training_operations(self.denoiser, self.config.data.length)
        speed = Speed(tokens_a_step, operations, self.denoiser.dtype, list(self.mesh.devices.flat))
        pending = None
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(GracefulStop())  # entered first, so that it is left after the last save
            stack.enter_context(contextlib.closing(self.checkpointer))
            also = tracker.write if tracker else None
            writer = stack.enter_context(contextlib.closing(MetricWriter(self.workdir, first, also=also)))
            progress = stack.enter_context(Progress(training.steps, first, tokens_a_step, label="train"))
            if stop.agreed():
                return False
            for step in range(first + 1, training.steps + 1):
                batch = place_local(next(self.iterator), training.batch_size, self.mesh)
                self.state, metrics = self.train_step(self.state, batch["tokens"], batch["mask"])
                # Metrics are read one step late, so that the next step is dispatched before the host waits.
                if pending is not None:
                    shown = self._checked(*pending)
                    progress.update(step - 1, loss=shown["loss"])
                    speed.begin(step - 1)  # not earlier: the first step compiles
                pending = (step, metrics)
                self.checkpointer.check()
                stopping = stop.agreed()  # asked once: a signal after this line counts for the next step
                validates = step % training.eval_every == 0 or step == training.steps
                saves = step % training.checkpoint_every == 0 or step == training.steps or stopping
                if step % training.log_every == 0 or validates or saves:
                    shown = self._checked(*pending)
                    rates = speed.take(step) | {"learning_rate": float(self.learning_rate(step - 1))}
                    writer.write(step, shown | rates, "train")
                valid = self.validate() if validates else {}
                if valid:
                    self._checked(step, {"valid NELBO": valid["nelbo"]})
                    bound = with_error(valid["nelbo"], valid.get("standard_error"), digits=3)
                    later = f", under the kernel that trains from step {warmup + 1} on" if step <= warmup else ""
                    progress.write(f"step {step}: valid NELBO {bound} nats/token{later}")
                    writer.write(step, valid, "valid")
                if saves:
                    self.save(step, {f"valid/{name}": value for name, value in valid.items()})
                if validates or saves:
                    speed.restart(step)
                if step == warmup:
                    progress.write(f"step {step}: the warm-up is over; from here on the loss is that of another kernel")
                if stopping:
                    break
            if pending is not None:
                progress.update(pending[0], loss=self._checked(*pending)["loss"])
        return int(self.state.step) >= training.steps

    def _checked(self, step, metrics):
        """The metrics of a step on the host. UserError if one is not finite."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        # With math, not jnp: the device would do this only after the step that was just dispatched.
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            saved = self.saved_step
            good = "there is no checkpoint yet" if saved is None else f"the last good checkpoint is step {saved}"
            raise UserError(
                f"{' and '.join(bad)} not finite at step {step}; {good} in {self.workdir}: "
                "lower the learning rate, or raise the warm-up, and start again in another work directory"
            )
        return values


def main(
    config: Any,
    workdir: str | pathlib.Path,
    initial: parent.Request | None = None,
    given: dict | None = None,
    file_config: Any = None,
    wandb: str | None = None,
) -> bool:
    """Trains a run to its last step, or until it is asked to stop; returns whether it reached the last step.

    Args:
        config: a ConfigDict.
        workdir: the work directory, or its address on a store.
        initial: a run whose weights a new run starts with.
        given: {key: the value of the configuration file} of keys that the command line changes. Keys without effect are
            reported, and warm-ups are shortened if there are fewer steps.
        file_config: the configuration of the file, if no system is named.
        wandb: a project of Weights & Biases that also receives the metrics.

    Raises:
        UserError: the run is impossible, or its loss is not finite.
    """
    distributed.start(stops=True)
    if wandb:
        require("wandb", use=f"--wandb={wandb}")
    given = given or {}
    with contextlib.ExitStack() as stack:
        workdir = stack.enter_context(workplace.opened(workdir))
        shrunk = checks.fit_warmup(config, given, find_config(workdir))
        run = stack.enter_context(contextlib.closing(Run(config, workdir, initial)))
        done, notes = int(run.state.step), [shrunk, checks.tell_unread(config, given, file_config)]
        notes += [checks.tell_table(config, given, run.corpus.table_made), checks.tell_stages(config, done)]
        print(*filter(None, notes), build.describe(run.state.params, run.denoiser), sep="\n", flush=True)
        tracker = None
        if wandb and done < config.training.steps:
            tracker = stack.enter_context(contextlib.closing(Tracker(wandb, workdir, config.to_dict())))
        finished = done >= config.training.steps
        if finished:
            print(f"{remote.origin(workdir)} is trained to its {counted(config.training.steps, 'step')}")
        elif finished := run.loop(tracker):
            print(f"trained to step {config.training.steps}; checkpoints in {run.workdir / 'checkpoints'}")
        elif run.saved_step is None:
            print("stopped on request before the first step: the same command starts again")
        else:
            print(f"stopped on request at step {int(run.state.step)} and saved: the same command continues")
    return finished


if __name__ == "__main__":
    CONFIG = config_flag.define_config_flag()
    WORKDIR = flags.DEFINE_string("workdir", None, "a directory for the run: created at first, continued afterwards")
    DATA = cli.define_data_flag()
    INIT_FROM = flags.DEFINE_string(
        "init_from", None, "RUN[:STEP|best|latest], or a portable model: start with its weights."
    )
    WEIGHTS = flags.DEFINE_enum("init_weights", None, list(parent.WEIGHTS), "Which of its weights. Default: ema.")
    MOMENTS = flags.DEFINE_bool("init_optimizer", False, "Also take the state of its optimizer.")
    WANDB = flags.DEFINE_string("wandb", None, "A project of Weights & Biases that also receives the metrics.")
    DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only print parameters, memory and projected time; write nothing.")
    STOP_STATUS = flags.DEFINE_integer(
        "stop_status", 0, "Exit status if it is stopped on request before its last step: for launchers that requeue."
    )
    cli.define_process_flags()

    def start():
        leave_on_request(STOP_STATUS.value)  # until the first step; from there on GracefulStop handles signals
        initial = parent.parse(INIT_FROM.value, WEIGHTS.value, MOMENTS.value)
        if DRY_RUN.value:
            if initial is not None:
                raise UserError("--dry_run does not read the weights of another run: leave out --init_from")
            cli.join_processes()
            dry_run.foresee(CONFIG.value, **config_flag.changes(DATA.value))
            return
        if WORKDIR.value is None:
            raise UserError(f"--workdir is missing: give {flags.FLAGS['workdir'].help}")
        cli.join_processes(stops=True)
        changes = config_flag.changes(DATA.value)
        finished = main(CONFIG.value, WORKDIR.value, initial, **changes, wandb=WANDB.value)
        if not finished and STOP_STATUS.value:
            sys.exit(STOP_STATUS.value)

    with distributed.ends_together():
        cli.run(start, compiles=True)
