"""Figures 1 and 2: SemDLM+ over gamma: perplexity and generation perplexity as training goes on, and the slack."""

import functools

from benchmarks import bakeoff
from benchmarks.bakeoff import Entry, markdown
from benchmarks.paper import plots, sampling
from benchmarks.paper.cells import Cell, TrainedRun
from benchmarks.paper.likelihoods import bound, kernel_of, slack_cell
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax.samplers.presets import make_settings

NAME, TITLE = "figures1-2", "Figures 1 and 2: gamma"


def entries(scale: Scale) -> dict[float, Entry]:
    """{gamma: entry}; with the default the entry of Table 2, which is trained once. Uniform noise beside them is
    that of Table 2."""
    return {
        gamma: tuned("semdlm_plus", scale, *([] if gamma == 1 else [f"kernel.gamma={gamma:g}"]))
        for gamma in scale.gammas
    }


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    wanted = [slack_cell(NAME, kernel_of(entry)) for entry in entries(scale).values()]
    settings = make_settings(steps=scale.sampling_steps[-2])
    for seed in seeds:
        for entry in entries(scale).values():
            key = f"{entry.text}, seed {seed}"
            wanted.append(Cell(NAME, f"{key}, curve", entry, seed, curve, scale.seconds[1]))
            measure = functools.partial(sampling.measure, scale, settings)
            wanted.append(Cell(NAME, f"{key}, text", entry, seed, measure, scale.seconds[1]))
    return wanted


def curve(run: TrainedRun) -> dict:
    """The NELBO of the valid split as training goes on, and of the test split at its end."""
    return {**bound(run), "valid": {row["step"]: row["valid/nelbo"] for row in bakeoff.curves(run.workdir)[1]}}


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """A row for each gamma."""
    rows = []
    for gamma, entry in entries(scale).items():
        found = [lines[key] for seed in seeds if (key := f"{entry.text}, seed {seed}, curve") in lines]
        texts = [lines[key] for seed in seeds if (key := f"{entry.text}, seed {seed}, text") in lines]
        slack = lines.get(f"{kernel_of(entry).text}, slack", {}).get("slack")
        if not found:
            continue
        mean = sum(line["likelihood"]["nelbo"] for line in found) / len(found)
        rows.append(
            (
                f"{gamma:g}",
                str(len(found)),
                bakeoff.mean_nelbo([line["likelihood"] for line in found]),
                "" if slack is None else f"{slack:+.3f}",
                "" if slack is None else f"{mean - slack:.3f}",
                sampling.shown(sampling.mean(texts, sampling.PERPLEXITY), "{:,.0f}"),
                sampling.shown(sampling.mean(texts, sampling.ENTROPY), "{:.3f}"),
            )
        )
    header = ("gamma", "seeds", "NELBO", "slack", "NELBO less slack", "generation perplexity", "entropy, nats")
    told = (
        f"SemDLM+, the first {scale.masked_steps} of {scale.steps} steps on masked text; test split. *slack*: of a "
        f"model of token frequencies under this gamma. Texts: ancestral, {scale.sampling_steps[-2]} steps, temperature "
        f"1; {sampling.protocol(scale)}."
    )
    return f"{told}\n\n{markdown(rows, header)}"


def draw(scale: Scale, seeds: list[int], lines: dict[str, dict], folder) -> list[str]:
    """The valid NELBO of every gamma against steps, with its slack beside."""
    curves = {}
    for gamma, entry in entries(scale).items():
        found = [lines[key]["valid"] for seed in seeds if (key := f"{entry.text}, seed {seed}, curve") in lines]
        slack = lines.get(f"{kernel_of(entry).text}, slack", {}).get("slack")
        if not found:
            continue
        steps = sorted(set.intersection(*(set(map(int, one)) for one in found)))
        means = [sum(one[str(step)] for one in found) / len(found) for step in steps]
        less = [None if slack is None else (mean - slack,) * 3 for mean in means]
        curves[f"gamma = {gamma:g}"] = [(s, (mean,) * 3, low) for s, mean, low in zip(steps, means, less)]
    if not curves:
        return []
    axes = ("NELBO of the valid split (nats/token)", "NELBO less the kernel's slack")
    return [plots.lines(folder / "figure1.png", curves, "training steps", axes)]
