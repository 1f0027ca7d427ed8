"""Measures of generated text beside held-out text and controls, by name. To add one: extend `Measure` and list it in
MEASURES, or name it as `module:Class`.
"""

from collections.abc import Collection, Mapping, Sequence

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import counted_measures as counted
from semdlm_jax.evaluation import scored_measures as scored
from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.measure import HIGHER, LOWER, NEEDS, Measure, as_interval
from semdlm_jax.evaluation.samples import CONTROLS, HELDOUT, Samples
from semdlm_jax.plugins import Registry

__all__ = ["MEASURES", "Measure", "Samples", "choose_measures", "measure_samples", "preferred_controls"]

MEASURES = Registry(
    "measure",
    Measure,
    {
        "entropy_nats": counted.Entropy,
        "basin_index": counted.BasinIndex,
        "bigrams_in_train": counted.BigramsInTrain,
        "distinct_2": counted.Distinct,
        "rep_4": counted.Repetition,
        "self_bleu": counted.SelfBleu,
        "novel_4": counted.Novelty,
        "longest_copy": counted.LongestCopy,
        "generation_perplexity": scored.GenerationPerplexity,
        "mauve": scored.Mauve,
        "energy_distance": scored.Energy,
        "frechet_distance": scored.Frechet,
        "typicality": scored.Typical,
    },
)


def preferred_controls(title: str, measure: Measure, found: Mapping[str, Interval]) -> list[str]:
    """Lines for the reader: the controls that a measure prefers to held-out text, where it has a better direction."""
    held_out = found.get(HELDOUT)
    if held_out is None or held_out.value is None or measure.better not in (LOWER, HIGHER):
        return []
    sign = 1 if measure.better == LOWER else -1
    preferred = [
        column
        for column in CONTROLS
        if (value := found.get(column, Interval(None, None, None)).value) is not None
        and sign * value < sign * held_out.value
    ]
    if not preferred:
        return []
    return [f"{title} prefers {' and '.join(preferred)} text to real text: it does not measure quality by itself"]


def choose_measures(names: Sequence[str] | None, count: int, given: Collection[str]) -> dict[str, Measure]:
    """Measures by their names; for None, all of the package that can be taken of so many samples. given: of NEEDS.

    Raises:
        UserError: one does not exist, needs a scorer where there is none, or needs more samples.
    """
    made = {name: MEASURES.make(name) for name in names or MEASURES}
    found = {}
    for name, measure in made.items():
        try:
            for need in measure.needs.difference(given):
                raise UserError(f"the measure {name} needs {NEEDS[need]}")
            measure.check(count)
        except UserError:
            if names:
                raise
        else:
            found[name] = measure
    return found


def measure_samples(samples: Samples, measures: Mapping[str, Measure]) -> dict[str, dict[str, Interval]]:
    """{measure: {column: Interval}}."""
    return {
        name: {column: as_interval(value) for column, value in measure.of(samples).items()}
        for name, measure in measures.items()
    }
