"""Overlap without slack: several partitions of the vocabulary, one for each sequence, which the network is told.

    python -m benchmarks.several_partitions --config=configs/quickstart.py --kinds=one,same,several --seeds=0,1,2 \
        --config.evaluation.draws=4

Blocks do not overlap, so a token is only ever mixed up with the members of its own block; neighborhoods overlap, and
their bound is loose. With P partitions of like meaning, made from other first centers, a sequence draws its noise from
one of them. Given this partition the process is a Markov chain with a tight bound, and the mean of P valid bounds is
valid. The network is told partition p by the time t + p, which it reads through the same embedding as t, so that it
has no further parameters.

  one      system `semdlm_nested` with its one partition, by the same program
  same     a batch is divided and the network is told a number, but all partitions are the same one: a control
  several  P partitions

The first --masked steps train on masked text. A batch is divided evenly over the partitions; the bound is scored once
for each. Every result is a line of JSON in --output; what is there is not done again. A line does not know of further
--config.keys: give another --output with them.
"""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.bakeoff import Entry, configure, markdown, mean_nelbo, parse_seeds
from benchmarks.lines import append_result, read_results
from semdlm_jax import checks, cli, config_flag
from semdlm_jax.data.pipeline import eval_batches, scored_rows
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import collect, compile_terms, summarize
from semdlm_jax.experiment import build
from semdlm_jax.experiment.data import build_rows, build_run_data, train_iterator
from semdlm_jax.objectives import SequenceTerms
from semdlm_jax.runtime.mesh import place_batch, place_local
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.runtime.state import create_state
from semdlm_jax.semantics.partitions import build_partitions
from semdlm_jax.semantics.table import read_table, table_path
from semdlm_jax.train_step import configured_step

KINDS = ("one", "same", "several")


@dataclasses.dataclass(frozen=True)
class Told:
    """A network that is told the partition p of each row by the time t + p. of_rows: B -> the partitions, [B]."""

    network: Any
    of_rows: Callable

    def features(self, params, tokens_BxL, t_B, **told):
        return self.network.features(params, tokens_BxL, t_B + self.of_rows(len(t_B)), **told)

    def __getattr__(self, name):
        return getattr(self.network, name)


@dataclasses.dataclass(frozen=True)
class Several:
    """`Stages` of which each trains an equal part of the rows: rows 0 to B / P - 1 the first, and so on."""

    stages: tuple

    def _parts(self, tree):
        parts = len(self.stages)
        return [
            jax.tree.map(lambda x, index=index: x[index * (len(x) // parts) : (index + 1) * (len(x) // parts)], tree)
            for index in range(parts)
        ]

    def corrupt(self, key, x0_BxL, mask_BxL, step):
        batches = [
            stages.corrupt(jax.random.fold_in(key, index), x0, mask, step)
            for index, (stages, (x0, mask)) in enumerate(zip(self.stages, self._parts((x0_BxL, mask_BxL)), strict=True))
        ]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)

    def sums(self, readout, features_BxLxD, batch, step, key):
        parts = zip(self.stages, self._parts((features_BxLxD, batch)), strict=True)
        found = [
            stages.sums(readout, features, rows, step, jax.random.fold_in(key, index))
            for index, (stages, (features, rows)) in enumerate(parts)
        ]
        return tuple(map(sum, zip(*found, strict=True)))


def corpora_of(config, kind, count):
    """The data of a run, once with each partition. UserError: so many cannot be trained or made."""
    parts = 1 if kind == "one" else count
    if config.training.batch_size % parts or config.training.microbatches > 1 or config.evaluation.draws % parts:
        raise UserError(
            f"{parts} partitions must divide training.batch_size = {config.training.batch_size}, in one microbatch, "
            f"and evaluation.draws = {config.evaluation.draws}: give other numbers"
        )
    corpus = build_run_data(config)
    if kind != "several":
        return [corpus] * parts
    vocabulary, table = corpus.vocabulary, read_table(table_path(config))[0]
    there = np.asarray(vocabulary.require("partitions"))
    special = there[0] == there[0].max()
    levels = [int(level.max()) for level in there]
    made = [build_partitions(table.embeddings, vocabulary.unigram, special, levels, seed=p) for p in range(count)]
    if any(np.array_equal(one, made[0]) for one in made[1:]):
        raise UserError("two partitions are the same: give fewer --partitions")
    return [dataclasses.replace(corpus, vocabulary=dataclasses.replace(vocabulary, partitions=one)) for one in made]


def agreement(corpora, size):
    """Of the pairs of tokens that share one of `size` blocks of a partition, the share that another's joins, too."""
    levels = [np.asarray(corpus.vocabulary.partitions) for corpus in corpora]
    blocks = [next(level for level in of_one if level.max() == size) for of_one in levels]
    shares = [pairs_in(one * (size + 1) + other) / pairs_in(one) for one, other in itertools.permutations(blocks, 2)]
    return float(np.mean(shares)) if shares else 1.0


def pairs_in(blocks):
    """How many ordered pairs of two tokens share a block. blocks: [V]."""
    _, sizes = np.unique(blocks, return_counts=True)
    return int(np.sum(sizes.astype(np.int64) * (sizes - 1)))


def measure(config, corpora):
    """Trains one network, scores it, and returns a line. corpora: of `corpora_of`."""
    began, parts, mesh = time.monotonic(), len(corpora), build.build_mesh(config)
    draws = config.evaluation.draws // parts
    network, (optimizer, _) = build.build_denoiser(config, corpora[0]), build.build_optimizer(config)
    init, place = build.build_init(network, corpora[0]), build.shard_rule(mesh)
    state = create_state(init, optimizer, jax.random.key(config.seed), place)
    told = Told(network, lambda rows: jnp.arange(rows) // (rows // parts))
    several = Several(tuple(build.build_stages(config, corpus) for corpus in corpora))
    step = configured_step(config, several, told, optimizer, mesh, state)
    iterator, size = train_iterator(config, corpora[0], mesh), config.training.batch_size
    losses = []
    with Progress(config.training.steps, 0, size * config.data.length, label="train") as progress:
        for index in range(config.training.steps):
            batch = place_local(next(iterator), size, mesh)
            state, metrics = step(state, batch["tokens"], batch["mask"])
            losses.append(float(metrics["loss"]))
            progress.update(index + 1, loss=losses[-1])
    rows, terms = build_rows(config, corpora[0].prepared, "test"), []
    for p, corpus in enumerate(corpora):
        of_one = Told(network, lambda rows, p=p: jnp.full(rows, p))
        compiled = compile_terms(of_one, build.build_objective(config, corpus), mesh, build.scoring_of(config))
        batches = eval_batches(rows, config.evaluation.batch_size)
        place = {"draws": draws, "place": lambda batch: place_batch(batch, mesh)}
        terms.append(collect(compiled, state.ema_params, batches, scored_rows(rows), p, **place))
    likelihood = summarize(SequenceTerms(*map(np.concatenate, zip(*terms, strict=True))))
    return {
        "agreement": agreement(corpora, int(config.kernel.blocks)),
        "draws": draws * parts,
        "loss": float(np.mean(losses[-len(losses) // 10 :])),
        "likelihood": dataclasses.asdict(likelihood),
        "seconds": time.monotonic() - began,
    }


def main(options):
    kinds, seeds = dict.fromkeys(options.kinds), parse_seeds(options.seeds)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UserError(f"--kinds: {', '.join(unknown) or 'none'}: give some of {', '.join(KINDS)}")
    if options.masked >= options.steps:
        raise UserError(
            f"--masked={options.masked} leaves none of --steps={options.steps} to train on noise: give fewer"
        )
    cli.check_output(options.output)
    entry = Entry.parse(f"semdlm_nested+warmup.steps={options.masked}")
    output, rows = pathlib.Path(options.output), []

    def known(kind, seed):
        """(what names a run, its line or None)."""
        parts = 1 if kind == "one" else options.partitions
        run = {"kind": kind, "partitions": parts, "seed": seed, "steps": options.steps, "masked": options.masked}
        return run, next((line for line in read_results(output) if run.items() <= line.items()), None)

    config, corpora = configure(entry, options.steps, seeds[0]), {}
    checks.check_config(config)
    for kind in kinds:  # all of them before any long work
        if any(known(kind, seed)[1] is None for seed in seeds):
            corpora[kind] = corpora_of(config, kind, options.partitions)
    for kind in kinds:
        found = []
        for seed in seeds:
            run, line = known(kind, seed)
            if line is None:
                print(f"== {kind}, seed {seed}", flush=True)
                line = run | measure(configure(entry, options.steps, seed, print), corpora[kind])
                append_result(output, line)
            found.append(line)
        likelihoods = [line["likelihood"] for line in found]
        of_seeds = ", ".join(f"{likelihood['nelbo']:.3f}" for likelihood in likelihoods)
        rows.append((kind, f"{found[0]['agreement']:.2f}", of_seeds, mean_nelbo(likelihoods)))
    print(markdown(rows, ("partitions", "agreement", "NELBO of each seed", "mean")))


if __name__ == "__main__":
    config_flag.define_config_flag()
    flags.DEFINE_list("kinds", list(KINDS), "Which to train.")
    flags.DEFINE_integer("partitions", 4, "P.", lower_bound=1)
    flags.DEFINE_integer("steps", 600, "Steps of a run.")
    flags.DEFINE_integer("masked", 250, "Of them on masked text, first.", lower_bound=0)
    flags.DEFINE_list("seeds", ["0"], "Seeds of the runs.")
    flags.DEFINE_string("output", "several_partitions.jsonl", "The file of results.")
    cli.run(lambda: main(flags.FLAGS))
