"""Trains systems under equal tokens and compares them under one bound: a table and learning curves.

    python -m benchmarks.bakeoff --config=configs/quickstart.py --systems=mdlm,udlm,semdlm_plus --steps=200 --seeds=0,1
    python -m benchmarks.bakeoff … --systems=all,semdlm_plus+kernel.gamma=2,semdlm_plus+objective.lambda_same=0.1
    python -m benchmarks.bakeoff … --systems=semdlm_plus,semdlm_plus+semantics.table=tables/w2.npz

A system is a name of experiment/systems.py, with changes of single keys after plus signs; `all` means all systems.
Every run has a work directory of its own below --workdir. The same command, started again, therefore continues where
it stopped and reads what is finished. --output names the file of the table (.md); the plot of the curves is saved
beside it (.png; pip install -e .[plots]). --lines names a file (.jsonl) that keeps the scores of every run, a line of
JSON each, also when the work directories are gone.

Columns, means over seeds:
  NELBO        nats per token of the test split, `evaluation.draws` times a window, EMA weights; ± the standard error
               over windows, or, with several seeds, that of the mean over seeds if it is larger
  prior        the prior term of the NELBO
  tilted       for losses that weigh positions: the NELBO if these weights are not divided out of the posterior
  loss         training loss of the last tenth of the steps; comparable only between runs with the same kind of loss
  tokens/s     median over the logged intervals of training; not meaningful on a busy machine
  grad. noise  trace of the covariance of a batch's gradient, divided by the squared norm of its mean, after training;
               from 16 batches; inf if their mean cannot be distinguished from noise
"""

import dataclasses
import importlib.util
import itertools
import json
import math
import pathlib
import re
import statistics

from absl import flags
from ml_collections import config_flags

from benchmarks.gradient_noise import gradient_noise
from benchmarks.lines import append_result, read_results
from benchmarks.timing import machine
from semdlm_jax import checks, cli, config_flag, keys, remote
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_objective, build_optimizer
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.experiment.systems import SYSTEMS
from semdlm_jax.options import counted
from semdlm_jax.scores import score_likelihood
from semdlm_jax.train import Run


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the comparison: a system, and keys changed in it: (('kernel.gamma', '2'), …)."""

    system: str
    changes: tuple = ()

    @classmethod
    def parse(cls, text):
        system, *changes = text.split("+")
        if system not in SYSTEMS:
            raise UserError(f"--systems: unknown system {system!r}: give names of {', '.join(SYSTEMS)}, or all")
        for change in changes:
            if "=" not in change:
                raise UserError(f"--systems={text}: {change!r} changes no key: write section.key=value")
        return cls(system, tuple(tuple(change.split("=", 1)) for change in changes))

    @property
    def name(self):
        return ", ".join([self.system, *(f"{key} = {value}" for key, value in self.changes)])

    @property
    def text(self):
        """What `parse` reads."""
        return "+".join([self.system, *(f"{key}={value}" for key, value in self.changes)])

    @property
    def directory(self):
        return self.text.replace("/", "%2F")  # of a table's path: one directory, not several


def parse_systems(text):
    """The entries of a comma-separated list, each once. A comma before a number belongs to a value: speeds=1,20."""
    parts = [part.strip() for part in re.split(r",(?!\s*[-.\d])", text)]
    names = [name for part in parts for name in (SYSTEMS if part == "all" else [part])]
    return list(dict.fromkeys(Entry.parse(name) for name in names))


def parse_seeds(words):
    """The seeds of a list flag, each once. UserError: there is none, or one that no run can have."""
    if not words or not all(word.isdecimal() for word in words):
        raise UserError(f"--seeds={','.join(words)}: give whole numbers from 0 on, with commas between them")
    seeds = list(dict.fromkeys(map(int, words)))
    for seed in seeds:
        keys.KEYS["seed"].check("--seeds", seed)
    return seeds


def configure(entry, steps, seed, tell=lambda line: None):
    """The configuration of the file with the system and changed keys of the entry, and the keys of the command line.
    Warm-ups that are too long for so few steps are shortened as in training; tell(line) reports this."""
    flag = flags.FLAGS["config"]
    path, given = config_flags.get_config_filename(flag).partition(":")[0], config_flags.get_override_values(flag)
    config = config_flag.parse_config(f"{path}:{entry.system}")
    before = {**given, **dict(entry.changes), "training.steps": config.training.steps}
    with config.unlocked():
        config.update_from_flattened_dict(given)
        for key, value in entry.changes:
            config_flag.set_key(config, key, value)
        config.training.steps, config.seed = steps, seed
        config.training.eval_every = max(1, steps // 8)
        config.training.checkpoint_every = max(1, steps // 2)
        if note := checks.fit_warmup(config, before):
            tell(note)
    return config


def place_of(folder, entry, steps, seed):
    """The work directory of a run."""
    return folder / f"{entry.directory}-{steps}-{seed}"


def train(entry, steps, seed, workdir):
    """The run of an entry, trained to its last step."""
    print(f"== {entry.name}, {counted(steps, 'step')}, seed {seed}", flush=True)
    run = Run(configure(entry, steps, seed, print), workdir)
    if int(run.state.step) < steps and not run.loop():
        raise SystemExit(f"stopped on request: the same command continues {workdir}")
    return run


def measure(entry, steps, seed, folder):
    """Trains one run to its end, scores it and returns the results; those of a finished run are read from its file."""
    workdir = place_of(folder, entry, steps, seed)
    result_file = workdir / "result.json"
    if result_file.exists():
        return json.loads(result_file.read_text())
    noise = gradient_noise(train(entry, steps, seed, workdir))
    trained = load_trained(workdir, "latest")
    tokens = trained.corpus.prepared.splits["test"]
    likelihood, protocol = score_likelihood(trained, tokens)
    scores = {"likelihood": dataclasses.asdict(likelihood), "protocol": protocol, "machine": machine()}
    result = {**scores, "gradient_noise": noise}
    posterior = None if trained.objective.exact else trained.objective.posterior
    if posterior is not None and posterior.unchanged_weight != 1:
        tilted, _ = score_likelihood(trained, tokens, posterior=dataclasses.replace(posterior, unchanged_weight=1.0))
        result["tilted"] = dataclasses.asdict(tilted)
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def keep(path, entry, steps, seed, result):
    """Appends the scores of a run to a file of lines, unless it has them. Other scores of a run of the same name, as
    other --config.keys give them, are a line of their own."""
    line = json.loads(json.dumps({"system": entry.text, "steps": steps, "seed": seed, **result}))
    if not any(line.items() <= known.items() for known in read_results(path)):
        append_result(pathlib.Path(path), line)


def curves(workdir):
    """(training metrics, valid metrics) of a run: lists of rows by step."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "train/loss" in row], [row for row in rows if "valid/nelbo" in row]


def median_speed(training):
    """Tokens a second, from rows of training metrics."""
    rates = [row["train/tokens_per_second"] for row in training if "train/tokens_per_second" in row]
    return statistics.median(rates)


def mean_nelbo(likelihoods):
    """`mean ± error` of one system: over texts, or that of the mean over seeds if it is larger. likelihoods: a dict a
    seed; all of the same texts, whose error more seeds do not lessen."""
    nelbos = [likelihood["nelbo"] for likelihood in likelihoods]
    within = statistics.mean(likelihood["standard_error"] for likelihood in likelihoods)
    between = statistics.stdev(nelbos) / math.sqrt(len(nelbos)) if len(nelbos) > 1 else 0.0
    return f"{statistics.mean(nelbos):.3f} ± {max(within, between):.3f}"


def row(entry, results, folder, steps, seeds):
    """One row of the table, as strings."""
    training = [row for seed in seeds for row in curves(place_of(folder, entry, steps, seed))[0]]
    loss = statistics.mean(row["train/loss"] for row in training if row["step"] > 0.9 * steps)
    tilted = [result["tilted"]["nelbo"] for result in results if "tilted" in result]
    noise = statistics.mean(result["gradient_noise"] for result in results)
    return (
        entry.name,
        mean_nelbo([result["likelihood"] for result in results]),
        f"{statistics.mean(result['likelihood']['prior'] for result in results):.3f}",
        f"{statistics.mean(tilted):.3f}" if tilted else "",
        f"{loss:.3g}",
        f"{median_speed(training):,.0f}",
        f"{noise:.3g}",
    )


HEADER = ("system", "NELBO", "prior", "tilted", "loss", "tokens/s", "grad. noise")


def markdown(rows, header=HEADER):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(path, entries, folder, steps, seeds, unigram):
    """Valid NELBO against tokens, a line a system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5))
    colors = plt.get_cmap("tab20").colors
    for entry, color in zip(entries, colors * (1 + len(entries) // len(colors)), strict=False):
        for seed in seeds:
            valid = curves(place_of(folder, entry, steps, seed))[1]
            label = entry.name if seed == seeds[0] else None
            axes.plot([r["step"] for r in valid], [r["valid/nelbo"] for r in valid], color=color, label=label)
    axes.axhline(unigram, color="grey", linestyle=":", label="unigram entropy")
    axes.set(xlabel="steps", ylabel="NELBO of the valid split (nats/token)")
    axes.legend(fontsize=7, ncol=2)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(options):
    cli.check_output(options.output)
    cli.check_output(options.lines, "lines")
    cli.check_distinct(output=options.output, lines=options.lines)
    entries, seeds = parse_systems(options.systems), parse_seeds(options.seeds)
    if options.steps < 2:
        raise UserError(f"--steps={options.steps}: give at least 2")
    if options.output and importlib.util.find_spec("matplotlib") is None:
        raise UserError("--output draws curves with matplotlib, which is not installed: pip install -e .[plots]")
    remote.check_here(options.workdir, "--workdir")
    folder = pathlib.Path(options.workdir)
    for entry in entries:  # all of them before any long work
        config = configure(entry, options.steps, seeds[0])
        checks.check_config(config)
        build_optimizer(config)
        build_objective(config, build_run_data(config))
    results = {entry: [] for entry in entries}
    for entry, seed in itertools.product(entries, seeds):
        results[entry].append(measure(entry, options.steps, seed, folder))
        if options.lines:
            keep(options.lines, entry, options.steps, seed, results[entry][-1])
    prepared = build_run_data(config).prepared
    tokens = prepared.splits["test"]
    unigram = prepared.unigram_entropy("test")
    table = markdown([row(entry, results[entry], folder, options.steps, seeds) for entry in entries])
    scale = f"{options.steps * config.training.batch_size * config.data.length:,}"
    protocol = next(r["protocol"] for e in entries for r in results[e] if e.system != "ar" or len(entries) == 1)
    text = (
        f"{counted(options.steps, 'step')}, {scale} tokens a run, seeds {', '.join(map(str, seeds))}; "
        f"test split, {len(tokens):,} tokens; {protocol}. "
        f"Unigram entropy of the test split: {unigram:.3f}.\n\n{table}\n"
    )
    print(text)
    if options.output:
        output = pathlib.Path(options.output)
        output.write_text(text)
        unigram = prepared.unigram_entropy("valid")
        plot(output.with_suffix(".png"), entries, folder, options.steps, seeds, unigram)
        print(f"written to {output} and {output.with_suffix('.png')}")


if __name__ == "__main__":
    config_flag.define_config_flag()
    flags.DEFINE_string("systems", "all", "Comma-separated systems, each with changed keys after plus signs.")
    flags.DEFINE_integer("steps", 200, "Steps of every run.")
    flags.DEFINE_list("seeds", ["0"], "Seeds; every system runs with each.")
    flags.DEFINE_string("workdir", "runs/bakeoff", "Where the runs are kept.")
    flags.DEFINE_string("output", None, "Markdown file for the table; the curves go beside it.")
    flags.DEFINE_string("lines", None, "File for the scores of each run, a line of JSON each (.jsonl).")
    cli.run(lambda: main(flags.FLAGS))
