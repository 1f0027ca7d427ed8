"""Estimates a training before it begins: `python -m semdlm_jax.train --config=… --dry_run`. Writes nothing."""

import datetime
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax

from semdlm_jax import checks
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_run_data, pads, train_iterator
from semdlm_jax.options import counted
from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.mesh import check_batch, place_local
from semdlm_jax.runtime.state import abstract_state, create_state
from semdlm_jax.train_step import configured_step

TIMED = 3  # steps, after one that is not


def foresee(config: Any, given: dict | None = None, file_config: Any = None) -> None:
    """Prints `estimate`, and before it what `train.main` says of the configuration; arguments as there."""
    distributed.start()
    given = given or {}
    shrunk = checks.fit_warmup(config, given)
    for line in (shrunk, checks.tell_unread(config, given, file_config), checks.tell_stages(config)):
        if line:
            print(line, flush=True)
    checks.check_config(config)
    for line in estimate(config):
        if jax.process_index() == 0:
            print(line, flush=True)


def estimate(config: Any) -> Iterator[str]:
    """Lines on parameters, data, memory and time of a training, each as soon as it is known.

    Memory is what the compiled step needs on each device. Time is the median of TIMED steps on real rows, multiplied by
    the number of steps; a training also validates, saves and compiles.

    Raises:
        UserError: an impossible configuration.
    """
    mesh = build.build_mesh(config)
    training, length = config.training, config.data.length
    check_batch(training.batch_size, training.microbatches, mesh)
    corpus = build_run_data(config)
    stages, denoiser = build.build_stages(config, corpus), build.build_denoiser(config, corpus)
    optimizer, _ = build.build_optimizer(config)
    init, shard = build.build_init(denoiser, corpus), build.shard_rule(mesh)
    abstract = abstract_state(init, optimizer, shard)
    yield build.describe(abstract.params, denoiser)
    tokens = training.batch_size * length
    in_all = f"{training.steps * tokens:,} in all{_passes(config, corpus)}"
    yield f"{counted(training.steps, 'step')} of {counted(tokens, 'token')}, {in_all}"

    step = configured_step(config, stages, denoiser, optimizer, mesh, abstract)
    rows = train_iterator(config, corpus, mesh)
    batch = place_local(next(rows), training.batch_size, mesh)
    since = time.monotonic()
    compiled = step.lower(abstract, batch["tokens"], batch["mask"]).compile()
    yield f"one step compiled in {time.monotonic() - since:.0f} s"
    memory: Any = compiled.memory_analysis()
    held, needed = memory.argument_size_in_bytes, memory.argument_size_in_bytes + memory.temp_size_in_bytes
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    kind, of = jax.local_devices()[0].device_kind, f" of {_mib(limit)}" if limit else ""
    yield (
        f"memory of each of {counted(mesh.size, 'device')} ({kind}): {_mib(held)} of weights, averages and "
        f"moments, {_mib(needed)} while a step runs{of}"
    )
    if limit and needed > limit:
        yield "this does not fit: give more training.microbatches, set network.remat, or share weights with mesh.fsdp"
        return

    state, seconds = create_state(init, optimizer, jax.random.key(config.seed), shard), []
    for _ in range(1 + TIMED):
        since = time.monotonic()
        state, metrics = compiled(state, batch["tokens"], batch["mask"])
        jax.block_until_ready(metrics)
        seconds.append(time.monotonic() - since)
        batch = place_local(next(rows), training.batch_size, mesh)
    median = statistics.median(seconds[1:])
    left = datetime.timedelta(seconds=round(median * training.steps))
    yield (
        f"{tokens / median:,.0f} tokens/s (median of {TIMED} steps): {left} for all steps, without compiling, "
        "validating and saving"
    )


def _passes(config, corpus):
    """How often the training text is read; '' if that is unknown."""
    if corpus.prepared is None or pads(config):
        return ""
    tokens = config.training.steps * config.training.batch_size * config.data.length
    return f", {tokens / len(corpus.prepared.splits['train']):.1f} passes over the text"


def _mib(size):
    return f"{size / 2**20:,.1f} MiB"
