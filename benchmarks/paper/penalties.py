"""Figures 4 and 5: generation perplexity and entropy of SemDLM+ over lambda_freq and lambda_sem."""

import functools

from benchmarks.bakeoff import markdown
from benchmarks.paper import plots, sampling
from benchmarks.paper.cells import Cell
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax.samplers.presets import make_settings

NAME, TITLE = "figures4-5", "Figures 4 and 5: the semantic-frequency penalty"
MEASURES = (
    (sampling.PERPLEXITY, "generation perplexity", "{:,.0f}"),
    (sampling.ENTROPY, "entropy of a sequence, nats", "{:.3f}"),
    (sampling.BASIN, "basin index", "{:.3f}"),
)


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    wanted, entry = [], tuned("semdlm_plus", scale)
    for seed in seeds:
        for freq in scale.lambdas:
            for sem in scale.lambdas:
                settings = make_settings(
                    "semdlm_plus", steps=scale.sampling_steps[-2], lambda_freq=freq, lambda_sem=sem
                )
                measure = functools.partial(sampling.measure, scale, settings)
                wanted.append(Cell(NAME, _key(freq, sem, seed), entry, seed, measure, scale.seconds[1]))
    return wanted


def _key(freq, sem, seed):
    return f"lambda_freq {freq:g}, lambda_sem {sem:g}, seed {seed}"


def grids(
    scale: Scale, seeds: list[int], lines: dict[str, dict]
) -> dict[str, list[list[tuple[float, float, float] | None]]]:
    """{title: (mean, least, largest) over seeds [lambda_freq][lambda_sem], as `sampling.mean` has them}."""

    def values(measure, freq, sem):
        return sampling.mean([lines[key] for seed in seeds if (key := _key(freq, sem, seed)) in lines], measure)

    return {
        title: [[values(measure, freq, sem) for sem in scale.lambdas] for freq in scale.lambdas]
        for measure, title, _ in MEASURES
    }


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """A grid for each measure."""
    there = [seed for seed in seeds if _key(scale.lambdas[0], scale.lambdas[0], seed) in lines]
    told = (
        f"SemDLM+ with the paper's sampler (tau-leaping, one correction a step, 2 strides), {scale.sampling_steps[-2]} "
        f"steps; seeds {', '.join(map(str, there))}; {sampling.protocol(scale)}. Values are means over seeds with the "
        "least and the largest; of one seed with its 95 % interval over texts."
    )
    parts = [told]
    for (_, title, form), grid in zip(MEASURES, grids(scale, seeds, lines).values()):
        rows = [
            (f"{freq:g}", *(sampling.shown(values, form) for values in row)) for freq, row in zip(scale.lambdas, grid)
        ]
        header = ("lambda_freq", *(f"lambda_sem {sem:g}" for sem in scale.lambdas))
        parts += [f"**{title[0].upper()}{title[1:]}**", markdown(rows, header)]
    return "\n\n".join(parts)


def draw(scale: Scale, seeds: list[int], lines: dict[str, dict], folder) -> list[str]:
    """Maps over the lambdas."""
    found = grids(scale, seeds, lines)
    if any(values is None for grid in found.values() for row in grid for values in row):
        return []
    found = {title: [[values[0] for values in row if values] for row in grid] for title, grid in found.items()}
    return [plots.maps(folder / "figures4-5.png", found, scale.lambdas, "lambda_sem", "lambda_freq")]
