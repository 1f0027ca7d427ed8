"""What the jobs that train systems share: they train and score what has no result yet, one process after another.

A job of this kind is one command (see job1.py). Each system runs in a process of its own, so that its peak memory is
its own and the failure of one does not stop the others. Its result is one line of JSON, which is appended to
FOLDER/NAME.jsonl (--output) as soon as it is known. Systems with a line there or in --known are left out: after
the lines of a first card are appended to that file, the same command goes on with the rest on the next.
A system that would hardly fit into the rest of --minutes is not begun. With --together=N, N systems share the card:
while one compiles, another trains. Their speeds are then no speeds of the card, and the lines say so.
"""

import concurrent.futures
import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
from absl import flags

from benchmarks import bakeoff
from benchmarks.lines import append_result, read_results
from benchmarks.timing import machine
from semdlm_jax import checks, cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_objective, count_parameters
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.options import counted
from semdlm_jax.scores import score_likelihood


def is_done(entry, results, steps, seed):
    return any((r["system"], r["steps"], r["seed"]) == (entry.name, steps, seed) for r in results)


def measure(entry, steps, seed, folder, test_tokens=None, together=1):
    """Trains and scores one system: what its line holds.

    Args:
        entry: a bakeoff.Entry.
        steps, seed: of training.
        folder: below which it has its work directory.
        test_tokens: how many of the test split are scored; None for all.
        together: how many processes share the device.
    """
    begun, workdir = time.monotonic(), bakeoff.place_of(folder, entry, steps, seed)
    run = bakeoff.train(entry, steps, seed, workdir)
    trained_after, device = time.monotonic() - begun, jax.local_devices()[0]
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    trained = load_trained(workdir, "latest")
    prepared = trained.corpus.prepared
    likelihood, protocol = score_likelihood(trained, prepared.splits["test"][:test_tokens])
    training, valid = bakeoff.curves(workdir)
    return {
        "system": entry.name,
        "seed": seed,
        "steps": steps,
        "tokens": steps * run.config.training.batch_size * run.config.data.length,
        "likelihood": dataclasses.asdict(likelihood),
        "protocol": protocol,
        "valid": {row["step"]: row["valid/nelbo"] for row in valid},
        "loss": training[-1]["train/loss"],
        "tokens_per_second": bakeoff.median_speed(training),
        "peak_bytes": peak,
        "parameters": count_parameters(trained.params),
        "masked_steps": run.config.warmup.steps,
        "unigram": prepared.unigram_entropy("test"),
        "text": trained.corpus.identity["text"],
        "machine": machine() + (f", {together} systems at once" if together > 1 else ""),
        "seconds_training": trained_after,
        "seconds": time.monotonic() - begun,
    }


def fits(seconds_left, durations):
    """Whether one more system is begun: the slowest so far would end in time. The first always is."""
    return not durations or seconds_left > max(durations)


def work_off(entries, options, results_file, end):
    """Starts a process for each entry without a result, at most options.together at a time.

    Args:
        entries: bakeoff.Entry.
        options: flags: known, steps, seed, together.
        results_file: where the processes append their results.
        end: of the command, as time.monotonic() tells it.

    Returns:
        The names of those that failed or were not begun, each with the cause.
    """
    durations = []

    def one(entry):
        if is_done(entry, read_results(options.known, results_file), options.steps, options.seed):
            return print(f"{entry.name} has a result", flush=True)
        started = time.monotonic()
        seconds_left = end - started
        if not fits(seconds_left, durations):
            return f"{entry.name}: not begun, {max(seconds_left, 0):.0f} s were left"
        failure = _train_apart(entry, seconds_left, options.together)
        durations.append(time.monotonic() - started)
        return failure and f"{entry.name}: {failure}"

    with concurrent.futures.ThreadPoolExecutor(options.together) as pool:
        return [failure for failure in pool.map(one, entries) if failure]


def _train_apart(entry, seconds, together):
    """Runs this command for one entry in a process of its own; returns what went wrong, or None."""
    command = [sys.executable, *sys.orig_argv[1:], f"--only={entry.text}"]
    shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / together:.2f}"} if together > 1 else {}
    with tempfile.TemporaryDirectory() as folder:  # removed also if the process is killed
        try:
            environment = {**os.environ, **shared, "TMPDIR": folder}
            status = subprocess.run(command, env=environment, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            return "stopped, for the time was over"
    return f"ended with status {status}" if status else None


def main(name, systems, options):
    end = time.monotonic() + 60 * options.minutes
    entries = [bakeoff.Entry.parse(text) for text in options.systems or systems]
    results_file = pathlib.Path(options.output) / f"{name}.jsonl"
    checks.check_workdir(options.output, written=True, flag="output")
    if options.steps < 2 or not 0 < options.minutes < math.inf:
        raise UserError(f"--steps={options.steps}, --minutes={options.minutes}: give at least 2 steps and some minutes")
    if options.only:
        (entry,) = bakeoff.parse_systems(options.only)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            result = measure(entry, options.steps, options.seed, folder, options.test_tokens, options.together)
        append_result(results_file, result)
        speed, nelbo = result["tokens_per_second"], bakeoff.mean_nelbo([result["likelihood"]])
        print(f"{entry.name}: {nelbo} nats/token, {speed:,.0f} tokens/s, {result['seconds']:.0f} s", flush=True)
        return
    jax.config.update("jax_platforms", "cpu")  # of this process, which only checks: the card is for the others
    for entry in entries:  # all of them before any long work
        config = bakeoff.configure(entry, options.steps, options.seed)
        checks.check_config(config)
        build_objective(config, build_run_data(config))
    left = work_off(entries, options, results_file, end)
    done = len(entries) - len(left)
    print(*left, f"{done} of {counted(len(entries), 'system')} with a result; new ones in {results_file}", sep="\n")
    if left:
        raise SystemExit(1)


def start(name, systems, steps):
    """The command of a job.

    Args:
        name: of the file of results, without an ending.
        systems: entries as benchmarks.bakeoff takes them.
        steps: of every run, unless the command line says otherwise.
    """
    config_flag.define_config_flag()
    flags.DEFINE_string("output", None, "the folder for the lines of results")
    flags.DEFINE_string("known", f"benchmarks/results/{name}.jsonl", "File with lines of earlier commands.")
    flags.DEFINE_list("systems", [], "Only these systems of the job, or others, with changed keys after plus signs.")
    flags.DEFINE_string("only", None, "Train this one system in this process.")
    flags.DEFINE_integer("steps", steps, "Steps of every run.")
    flags.DEFINE_integer("seed", 0, "Seed of every run.")
    flags.DEFINE_float("minutes", 6.0, "Time of the command.")
    flags.DEFINE_integer("together", 1, "Systems that share the card at one time.", lower_bound=1)
    flags.DEFINE_integer("test_tokens", None, "Tokens of the test split that are scored; default: all.")
    cli.run(lambda: main(name, systems, flags.FLAGS), required=("config", "output"), compiles=True)
