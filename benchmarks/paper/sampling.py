"""What the cells on generated text share: sampling a run, and measuring its samples beside held-out text."""

import functools

from benchmarks.paper.cells import TrainedRun
from benchmarks.paper.scales import Scale
from semdlm_jax.evaluation.measures import choose_measures, measure_samples
from semdlm_jax.evaluation.samples import GENERATED, HELDOUT
from semdlm_jax.generate import generate
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.scorers import Scored, make_scorer
from semdlm_jax.scores import check_held_out, gather_samples, given_of

ENTROPY, PERPLEXITY, MAUVE, BASIN = "entropy_nats", "generation_perplexity", "mauve", "basin_index"
MEASURES = (ENTROPY, PERPLEXITY, MAUVE, BASIN)


@functools.cache
def scores_of(spec: str):
    """(`Scorer.score` that remembers what it has scored, the protocol of the scorer)."""
    scorer, known = make_scorer(spec), {}

    def score(texts) -> Scored:
        if (of := tuple(texts)) not in known:
            known[of] = scorer.score(texts)
        return known[of]

    return score, f"{scorer.name}: {scorer.protocol}"


def measure(scale: Scale, settings: SamplingSettings, run: TrainedRun) -> dict:
    """{measure: {generated, heldout: [value, low, high]}} of as many samples as the scale says, with seed 0."""
    trained, score = run.trained, scores_of(scale.scorer)[0]
    check_held_out(trained, "test")
    rows, _ = generate(trained, settings, num_samples=scale.samples, seed=0)
    samples = gather_samples(trained, "test", {GENERATED: rows}, score=score).only(GENERATED, HELDOUT)
    found = measure_samples(samples, choose_measures(_possible(scale), scale.samples, given_of(score, None)))
    return {"settings": str(settings), "measures": {name: _values(columns) for name, columns in found.items()}}


def _possible(scale):
    """MAUVE needs enough texts for its clusters."""
    return [name for name in MEASURES if name != MAUVE or scale.samples >= 32]


def _values(columns):
    return {column: [interval.value, interval.low, interval.high] for column, interval in columns.items()}


def protocol(scale: Scale) -> str:
    """The protocol of generated text in words."""
    return (
        f"{scale.samples} texts of every run and setting, seed 0; generation perplexity by "
        f"{scores_of(scale.scorer)[1]}; MAUVE by its last hidden states, against held-out rows of the test split"
    )


def mean(lines: list[dict], name: str, column: str = GENERATED) -> tuple[float, float, float] | None:
    """(mean, least, largest) over seeds of a measure; None where no line has it. Of one seed: its value and its
    interval over texts."""
    found = [line["measures"][name][column] for line in lines if name in line.get("measures", {})]
    found = [values for values in found if values[0] is not None]
    if not found:
        return None
    if len(found) == 1:
        value, low, high = found[0]
        return value, value if low is None else low, value if high is None else high
    values = [value for value, *_ in found]
    return sum(values) / len(values), min(values), max(values)


def shown(triple: tuple[float, float, float] | None, form: str) -> str:
    """`mean [low, high]`."""
    if triple is None:
        return ""
    value, low, high = (form.format(x) for x in triple)
    return f"{value} [{low}, {high}]"


def settings_of(lines: dict[str, dict]) -> str:
    """A list of how each sampler of a page draws, and from which run, {sampler: one of its lines}, as Markdown."""
    return "\n".join(f"* {name}: {line['system']}; {line['settings']}" for name, line in lines.items())
