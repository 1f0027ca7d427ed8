"""Table 3 and Figures 6 and 7: generation perplexity, entropy and MAUVE as the number of sampling steps grows."""

import functools

from benchmarks.bakeoff import markdown
from benchmarks.paper import plots, sampling
from benchmarks.paper.cells import Cell
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax.evaluation.samples import HELDOUT
from semdlm_jax.samplers.presets import make_settings

NAME, TITLE = "table3", "Table 3, Figures 6 and 7: generated text by sampling steps"

# A name, the system, and how it is sampled: a preset of its authors, with changes.
SAMPLERS = (
    ("D3PM, uniform", "d3pm_uniform", "d3pm", {}),
    ("MDLM", "mdlm", "mdlm", {}),
    ("ReMDM (MDLM's network)", "mdlm", "remdm_cap", {}),
    ("SEDD, uniform", "sedd_uniform", "sedd", {}),
    ("SEDD, masks", "sedd_absorbing", "sedd", {}),
    ("GIDD", "gidd", "gidd", {}),
    ("SemDLM+, the paper's sampler", "semdlm_plus", "semdlm_plus", {}),
    ("SemDLM+, no penalty", "semdlm_plus", "semdlm_plus", {"lambda_freq": 0.0, "lambda_sem": 0.0}),
    ("SemDLM+, ancestral", "semdlm_plus", None, {}),
    ("nested blocks, ancestral", "semdlm_nested", None, {}),
)


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    wanted = []
    for seed in seeds:
        for name, system, preset, changes in SAMPLERS:
            for steps in scale.sampling_steps:
                settings = make_settings(preset, **{**changes, "steps": steps})
                measure = functools.partial(sampling.measure, scale, settings)
                key = f"{name}, {steps} steps, seed {seed}"
                wanted.append(Cell(NAME, key, tuned(system, scale), seed, measure, scale.seconds[1]))
    return wanted


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """Tables of perplexity, entropy and MAUVE as Markdown."""
    found = {
        (name, steps): [lines[key] for seed in seeds if (key := f"{name}, {steps} steps, seed {seed}") in lines]
        for name, *_ in SAMPLERS
        for steps in scale.sampling_steps
    }
    header = ("sampler", "seeds", *(f"{steps} steps" for steps in scale.sampling_steps))
    told = (
        f"{sampling.protocol(scale)}. Values are means over seeds with the least and the largest; of one seed with its "
        "95 % interval over texts."
    )
    parts = [told]
    for measure, title, form in (
        (sampling.PERPLEXITY, "Generation perplexity", "{:,.0f}"),
        (sampling.ENTROPY, "Entropy of a sequence, nats", "{:.3f}"),
        (sampling.MAUVE, "MAUVE", "{:.3f}"),
    ):
        rows = []
        for name, *_ in SAMPLERS:
            of_steps = [found[name, steps] for steps in scale.sampling_steps]
            if not any(of_steps):
                continue
            values = [sampling.shown(sampling.mean(of, measure), form) for of in of_steps]
            rows.append((name, str(max(map(len, of_steps))), *values))
        some = next((of for of in found.values() if of), [])
        held = sampling.shown(sampling.mean(some[:1], measure, HELDOUT), form)
        rows.append(("held-out text", "", *[held] * len(scale.sampling_steps)))
        parts += [f"**{title}**", markdown(rows, header)]
    last = {name: of[0] for (name, steps), of in found.items() if of and steps == scale.sampling_steps[-1]}
    parts += [
        "The networks are those that Table 2 calls *tuned*, sampled so, where steps are most:",
        sampling.settings_of(last),
    ]
    return "\n\n".join(parts)


def draw(scale: Scale, seeds: list[int], lines: dict[str, dict], folder) -> list[str]:
    """Perplexity and entropy against steps, a line a sampler."""
    curves = {}
    for name, *_ in SAMPLERS:
        points = []
        for steps in scale.sampling_steps:
            of = [lines[key] for seed in seeds if (key := f"{name}, {steps} steps, seed {seed}") in lines]
            points.append((steps, sampling.mean(of, sampling.PERPLEXITY), sampling.mean(of, sampling.ENTROPY)))
        if any(point[1] for point in points):
            curves[name] = points
    if not curves:
        return []
    axes = ("generation perplexity", "entropy of a sequence (nats)")
    return [plots.lines(folder / "table3.png", curves, "sampling steps", axes, log_x=True, log_first=True)]
