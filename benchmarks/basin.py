"""What the semantic-frequency penalty (Eq. 23) does to generated text, over lambda_freq x lambda_sem (Figures 4 and 5).

    python -m benchmarks.basin --runs=semdlm_plus=runs/plus,semdlm_knn=runs/knn --output=benchmarks/results/basin.md

Samples every run with every pair of lambdas, always with the same seed, and measures: the entropy of a sequence (nats),
the basin index (mean similarity between the tokens of a sequence, relative to held-out text), distinct bigrams, and the
share of word bigrams that occur in the training text, which shows whether the samples still resemble text. The last row
of the table has the same measures of held-out windows. A plot shows them as maps over the lambdas. Instead of the last
measure, the paper plots the perplexity of the samples under another model.
"""

import pathlib

import numpy as np
from absl import flags

from benchmarks.runs import read_runs
from semdlm_jax import cli
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.options import counted
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.samplers.presets import make_settings
from semdlm_jax.scores import compare_samples

MEASURES = {
    "entropy_nats": "entropy (nats)",
    "basin_index": "basin index",
    "distinct_2": "distinct bigrams",
    "bigrams_in_train": "bigrams in train",
}


def main(options):
    cli.check_output(options.output)
    runs = read_runs(options.runs)
    lambdas = [float(x) for x in options.lambdas]
    size, maps, lines, done = len(lambdas), {}, [], 0
    with Progress(len(runs) * size**2, unit="grid point", label="basin") as progress:
        for name, workdir in runs.items():
            trained = load_trained(workdir)
            found = np.zeros((len(MEASURES), size, size))
            for i, lambda_freq in enumerate(lambdas):
                for j, lambda_sem in enumerate(lambdas):
                    settings = make_settings(
                        steps=options.steps,
                        strides=options.strides,
                        temperature=options.temperature,
                        lambda_freq=lambda_freq,
                        lambda_sem=lambda_sem,
                        window=options.window,
                    )
                    measured = compare_samples(trained, "test", settings, num_samples=options.samples)
                    found[:, i, j] = [measured[key]["generated"].value for key in MEASURES]
                    cells = " | ".join(f"{value:.3f}" for value in found[:, i, j])
                    lines.append(f"| {name} | {lambda_freq:g} | {lambda_sem:g} | {cells} |")
                    done += 1
                    progress.update(done)
            maps[name] = found
            cells = " | ".join(f"{measured[key]['heldout'].value:.3f}" for key in MEASURES)
    lines.append(f"| held-out text | | | {cells} |")
    window = f"a window of {options.window} positions" if options.window else "the whole sequence"
    protocol = (
        f"{counted(options.samples, 'sample')} of {trained.config.data.length} tokens a grid point, one seed; "
        f"ancestral, {counted(options.steps, 'step')}, {counted(options.strides, 'stride')}, "
        f"temperature {options.temperature:g}; counts over {window}."
    )
    head = ["| run | lambda_freq | lambda_sem | " + " | ".join(MEASURES.values()) + " |"]
    head.append("| --- | ---: | ---: |" + " ---: |" * len(MEASURES))
    table = "\n".join([protocol, "", *head, *lines])
    print(table)
    if options.output:
        path = pathlib.Path(options.output)
        path.write_text(table + f"\n\n![maps over the lambdas]({path.stem}.png)\n")
        plot(path.with_suffix(".png"), maps, lambdas)


def plot(path, maps, lambdas):
    """A map for each run and measure, with the values in its cells."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shape = len(maps), len(MEASURES)
    figure, grid = plt.subplots(*shape, figsize=(3.4 * shape[1], 3.2 * shape[0]), squeeze=False)
    for row, (name, found) in zip(grid, maps.items()):
        for axis, label, values in zip(row, MEASURES.values(), found):
            axis.imshow(values, origin="lower", cmap="viridis", aspect="auto")
            middle = (values.min() + values.max()) / 2
            for (i, j), value in np.ndenumerate(values):
                color = "black" if value > middle else "white"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
            axis.set_xticks(range(len(lambdas)), [f"{x:g}" for x in lambdas], fontsize=7)
            axis.set_yticks(range(len(lambdas)), [f"{x:g}" for x in lambdas], fontsize=7)
            axis.set_title(f"{name}: {label}", fontsize=9)
            axis.set_xlabel("lambda_sem", fontsize=8)
        row[0].set_ylabel("lambda_freq", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    flags.DEFINE_list("runs", None, "NAME=WORKDIR of every run compared")
    flags.DEFINE_list("lambdas", ["0", "0.25", "0.5", "1", "2"], "Values of both lambdas.")
    flags.DEFINE_integer("samples", 64, "Samples a grid point.", lower_bound=1)
    flags.DEFINE_integer("steps", 64, "Network evaluations a sample.", lower_bound=1)
    flags.DEFINE_integer("strides", 2, "Equal parts of the sequence, left to right.", lower_bound=1)
    flags.DEFINE_float("temperature", 0.7, "Divides the network's logits.", lower_bound=0.0)
    flags.DEFINE_integer("window", 0, "Positions of the penalty's window; 0 is the whole sequence.", lower_bound=0)
    flags.DEFINE_string("output", None, "Markdown file for the table; the plot goes beside it.")
    cli.run(lambda: main(flags.FLAGS), required=["runs"])
