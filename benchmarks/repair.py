"""Do samplers correct errors? Inserts errors into half-generated texts and follows them to the end of sampling.

    python -m benchmarks.repair --runs=mdlm=runs/mdlm,semdlm_plus=runs/plus --output=benchmarks/results/repair.md

Each run's own kernel corrupts held-out windows up to --time. Of the tokens that are not masks, --share are replaced by
tokens drawn uniformly from the tokens of the training text, and the run samples from there to text. *Mended*: the share
of the replaced positions that have the right token at the end. *Wrong token gone*: the share of them that no longer
have the inserted token. *Untouched*: the share of the other positions that have the right token, which shows what the
model can do without inserted errors. It prints a table over numbers of steps, and plots the shares during the longest
sampling. All runs must have the same vocabulary and length.

Proposition 4 of the paper says that the error of earlier steps shrinks by a factor eta <= 1 in every step: eta is 1 for
masks, and smaller for uniform and semantic noise.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.runs import read_runs
from semdlm_jax import cli
from semdlm_jax.experiment.build import build_network
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.samplers import Controls, Plan, Sampler, make_method

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


def plan_from(time, steps, length, t_min):
    """An even Plan of `steps` evaluations from `time` to t_min and then to text, in one stride."""
    t = np.linspace(time, t_min, steps, dtype=np.float32)
    whole = np.full(steps, length, np.int32)
    return Plan(t, np.append(t[1:], 0).astype(np.float32), np.zeros_like(t), np.zeros_like(whole), whole)


def damage(key, kernel, text, time, share, choices):
    """(x_t with errors, where they are): a share of the tokens, not of masks or symbols, become others of `choices`."""
    noise_key, place_key, token_key = jax.random.split(key, 3)
    noisy = kernel.corrupt(noise_key, text, jnp.full(text.shape, time))
    drawn = choices[jax.random.randint(token_key, text.shape, 0, len(choices))]
    wrong = (drawn != text) & (drawn != noisy)
    standing = (noisy < kernel.vocab_size) & (noisy != (-1 if kernel.mask_id is None else kernel.mask_id))
    put = wrong & standing & (jax.random.uniform(place_key, text.shape) < share)
    return jnp.where(put, drawn, noisy), put


def follow(trained, text, *, time, share, steps, sampler, seed=0):
    """(mended, wrong token gone, untouched), each [N + 1]: shares before and after each of N = steps evaluations."""
    objective, length = trained.objective, text.shape[1]
    kernel, forbidden = objective.kernel, trained.forbidden
    seen = np.flatnonzero(trained.corpus.vocabulary.unigram > 0)
    choices = jnp.asarray(np.setdiff1d(seen, trained.corpus.special_ids))
    walker = Sampler(make_method(sampler), kernel, objective.posterior)
    plan = plan_from(time, steps, length, objective.t_min)

    @jax.jit
    def run(params, key, text):
        damage_key, key = jax.random.split(key)
        noisy, put = damage(damage_key, kernel, text, time, share, choices)
        network = build_network(trained.denoiser, params)
        controls, nothing = Controls(forbidden_V=jnp.asarray(forbidden)), jnp.zeros(text.shape, bool)
        _, record = walker.sample(key, network, text, nothing, plan, controls, recorded=len(text), initial_BxL=noisy)
        way = jnp.concatenate([record.initial[None], record.tokens])

        def share_of(hits, among):
            return jnp.sum(hits & among, axis=(1, 2)) / jnp.sum(among)

        right = way == text
        return share_of(right, put), share_of(way != noisy, put), share_of(right, ~put)

    return jax.tree.map(np.asarray, run(trained.params, jax.random.key(seed), text))


def main(options):
    cli.check_output(options.output)
    runs = read_runs(options.runs)
    curves, lines, steps = {}, [], [int(n) for n in options.steps]
    done = 0
    with Progress(len(runs) * len(steps) * options.seeds, unit="run", label="repair") as progress:
        for name, workdir in runs.items():
            trained = load_trained(workdir)
            length, split = trained.config.data.length, trained.corpus.prepared.splits["test"]
            windows = split[: len(split) // length * length].reshape(-1, length)
            picked = np.random.default_rng(0).permutation(len(windows))[: options.windows]
            text = jnp.asarray(windows[picked], jnp.int32)
            for count in steps:
                found = []
                for seed in range(options.seeds):
                    way = {"time": options.time, "share": options.share, "sampler": options.sampler}
                    found.append(follow(trained, text, steps=count, seed=seed, **way))
                    done += 1
                    progress.update(done)
                ends = np.array([[curve[-1] for curve in curves] for curves in found])
                error = ends.std(0, ddof=1) / np.sqrt(len(ends)) if len(ends) > 1 else np.full(3, np.nan)
                cells = " | ".join(f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(ends.mean(0), error))
                lines.append(f"| {name} | {count} | {cells} |")
                curves[name] = np.mean(found, axis=0)
    protocol = (
        f"{options.windows} windows of the test split, corrupted to t = {options.time} by each kernel; "
        f"{options.share:.0%} of the tokens that are not masks replaced; sampler {options.sampler}, even steps to "
        f"t_min; {options.seeds} seeds, ± standard error of their mean."
    )
    table = "\n".join(
        [protocol, "", "| run | steps | mended | wrong token gone | untouched |", "| --- | ---: | ---: | ---: | ---: |"]
        + lines
    )
    print(table)
    if options.output:
        path = pathlib.Path(options.output)
        path.write_text(table + f"\n\n![along {steps[-1]} steps]({path.stem}.png)\n")
        plot(path.with_suffix(".png"), curves, options.time)


def plot(path, curves, time):
    """Shares along the way of the last number of steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharex=True)
    titles = ("mended: the right token again", "the wrong token is gone", "untouched positions that are right")
    for axis, title, index in zip(axes, titles, range(3)):
        for (name, curve), color in zip(curves.items(), COLORS):
            axis.plot(np.arange(curve.shape[1]), curve[index], label=name, color=color)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"evaluations from t = {time}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of positions")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    flags.DEFINE_list("runs", None, "NAME=WORKDIR of every run compared")
    flags.DEFINE_list("steps", ["8", "16", "32", "64"], "Numbers of evaluations from --time to text.")
    flags.DEFINE_float("time", 0.5, "Where the errors are put in.", lower_bound=0.01, upper_bound=1.0)
    flags.DEFINE_float("share", 0.1, "Of the standing tokens, how many are replaced.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("windows", 256, "Held-out windows.", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "Repetitions with other errors and draws.", lower_bound=1)
    flags.DEFINE_string("sampler", "ancestral", "A name of samplers.METHODS.")
    flags.DEFINE_string("output", None, "Markdown file for the table; the plot goes beside it.")
    cli.run(lambda: main(flags.FLAGS), required=["runs"])
