"""What is a clean context worth? Scores runs on held-out rows noised throughout, and on the ends of rows whose
beginnings are given without noise.

    python -m benchmarks.context --runs=plain=runs/plain,clean=runs/clean --output=context.md

*NELBO*: the bound of rows noised throughout, without marks, as `evaluate` has it. *Given, marked*: the bound of the
tokens behind the first --given of each row, which the network reads without noise and marked, as a sampler gives it a
prompt. *Given, unmarked*: the same without the mark, as a run without network.clean_mark reads a prompt. Nats per
scored token; the noise and times of a row are the same in all columns and runs of one kernel, and differences are those
from the first run, with the standard error of their mean over rows.
"""

import dataclasses
import pathlib

import jax
import numpy as np
from absl import flags

from benchmarks.runs import read_runs
from semdlm_jax import cli
from semdlm_jax.data.pipeline import eval_batches, scored_rows
from semdlm_jax.evaluation.likelihood import EVALUATION, stratified_uniforms
from semdlm_jax.experiment.build import build_score
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.runtime.progress import Progress

COLUMNS = {"NELBO": (False, False), "given, marked": (True, True), "given, unmarked": (True, False)}


def row_scores(trained, *, rows, draws, given, marked, progress):
    """[N] nats per scored token of each of the first rows of the test split, the mean over draws.

    Args:
        trained: the model.
        rows: N.
        draws: times and corruptions of a row.
        given: how many tokens at the beginning of a row are given; 0 for none.
        marked: whether the network is told so, if it has a mark.
        progress: a Progress of batches.
    """
    config, mesh = trained.config, trained.mesh
    denoiser = trained.denoiser if marked else dataclasses.replace(trained.denoiser, clean_mark=False)
    terms = build_score(config, denoiser, trained.objective, mesh)
    held_out, size = trained.rows("test"), config.evaluation.batch_size
    count = scored_rows(held_out, rows)
    key, uniforms = jax.random.fold_in(jax.random.key(0), EVALUATION), stratified_uniforms(0, count, draws)
    found = []
    for index, batch in enumerate(eval_batches(held_out, size, count)):
        batch["uniform"] = uniforms[np.minimum(batch["row"], count - 1)]
        if given:
            batch["given"] = batch["mask"] & (np.arange(held_out.length) < given)
        placed = place_batch(batch, mesh)
        scored = [jax.device_get(terms(trained.params, key, placed, draw)) for draw in range(draws)]
        total = np.mean([one.integral + one.prior + one.reconstruction for one in scored], axis=0)
        found.append((total / np.maximum(scored[0].tokens, 1))[scored[0].tokens > 0])
        progress.update(index + 1)
    return np.concatenate(found)


def cell(values, first):
    """Mean, standard error over rows, and the difference from the first run."""
    shown = f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"
    if first is values:
        return shown
    apart = values - first
    return f"{shown} ({apart.mean():+.3f} ± {apart.std(ddof=1) / len(apart) ** 0.5:.3f})"


def main(options):
    cli.check_output(options.output)
    runs, found, count = read_runs(options.runs), {}, 0
    for name, workdir in runs.items():
        trained = load_trained(workdir, "latest")
        given, count = options.given, scored_rows(trained.rows("test"), options.rows)
        batches = -(-count // trained.config.evaluation.batch_size)
        found[name] = {}
        for column, (is_given, marked) in COLUMNS.items():
            if column == "given, marked" and not trained.denoiser.clean_mark:
                continue
            with Progress(batches, unit="batch", label=f"{name}, {column}") as progress:
                how = {"rows": count, "draws": options.draws, "given": given * is_given, "marked": marked}
                found[name][column] = row_scores(trained, progress=progress, **how)
    first = next(iter(found.values()))
    lines = [f"| run | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for name, scores in found.items():
        # A run without a mark reads what is given as it is, so that both of its columns would be one.
        against = {column: first.get(column, first["given, unmarked"]) for column in COLUMNS}
        cells = [cell(scores[column], against[column]) if column in scores else "" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    told = f"{count:,} rows of the test split, {options.draws} draws, the first {options.given} tokens of each given."
    table = "\n".join([told, "", *lines]) + "\n"
    print(table)
    if options.output:
        pathlib.Path(options.output).write_text(table)


if __name__ == "__main__":
    flags.DEFINE_list("runs", None, "NAME=WORKDIR of every run compared; differences are from the first.")
    flags.DEFINE_integer("rows", 512, "Rows of the test split.", lower_bound=2)
    flags.DEFINE_integer("draws", 4, "Times and corruptions of a row.", lower_bound=1)
    flags.DEFINE_integer("given", 32, "Tokens at the beginning of a row that are given.", lower_bound=1)
    flags.DEFINE_string("output", None, "Markdown file for the table.")
    cli.run(lambda: main(flags.FLAGS), required=["runs"])
