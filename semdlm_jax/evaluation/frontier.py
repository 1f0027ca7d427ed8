"""A sweep over how text is sampled: quality against diversity, and against the steps that it takes."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.measures import MEASURES, measure_samples
from semdlm_jax.evaluation.part import Part
from semdlm_jax.evaluation.report import OF_FIGURES, Curve, Figure, Section
from semdlm_jax.evaluation.samples import GENERATED, HELDOUT
from semdlm_jax.options import number, numbers_in, text
from semdlm_jax.plugins import field

ENTROPY, PERPLEXITY, MAUVE = "entropy_nats", "generation_perplexity", "mauve"
MEASURED = (ENTROPY, "rep_4", PERPLEXITY, MAUVE)
DOUBLED = ("steps",)  # settings whose range is cut into equal ratios


def points_of(sweep: str, most: int, flag: str = "frontier") -> list[tuple[str, float]]:
    """(setting, value) of every point of a sweep.

    Args:
        sweep: 'temperature:0.5..1.2,steps:32..1024,top_p:0.8|0.9|1': ranges or values of settings of the sampler.
        flag: that gives it, for messages.
        most: points of a range: equally distant, ends included; for steps in equal ratios and whole.

    Raises:
        UserError: it is not written so.
    """
    found = []
    for part in filter(None, (part.strip() for part in sweep.split(","))):
        name, colon, values = part.partition(":")
        low, dots, high = values.partition("..")
        if name in ("preset", "options"):
            raise UserError(f"{flag} = {part!r} is no number: give --frontier_preset, or an option by its own name")
        if not colon or not values:
            raise UserError(f"{flag} = {part!r} names no values: write it as temperature:0.5..1.2 or top_p:0.8|0.9|1")
        ends = numbers_in(f"{flag} {name}", f"{low},{high}" if dots else values.replace("|", ","), "[-1e9, 1e9]")
        if dots and (len(ends) != 2 or ends[0] >= ends[1] or name in DOUBLED and ends[0] <= 0):
            raise UserError(f"{flag} = {part!r} is no range: give two numbers that rise, as temperature:0.5..1.2")
        if dots:
            spaced: Any = np.geomspace if name in DOUBLED else np.linspace
            ends = [round(float(value), 6) for value in spaced(ends[0], ends[1], most)]
        whole = (round(x) if name in DOUBLED or x == round(x) else x for x in ends)  # whole ones may have to be ints
        found += [(name, value) for value in dict.fromkeys(whole)]
    if not found:
        raise UserError(f"{flag} is empty: name what is swept, as --frontier=temperature:0.5..1.2")
    return found


@dataclasses.dataclass(frozen=True)
class FrontierPart(Part):
    """Entropy, generation perplexity and MAUVE as a setting of the sampler changes."""

    needs_split: ClassVar[bool] = True

    frontier: str = field(text("temperature:0.5..1.2", "what is swept: ranges or values of settings of the sampler"))
    frontier_points: int = field(number(5, "[2, 100]", "points of a range"))
    frontier_preset: str = field(text("", "a preset of generate that is changed; '': the run's own settings"))
    frontier_at: str = field(text("", "settings that all points share, as steps:256,lambda_freq:0; '': none"))
    entropy_floor: float = field(
        number(0.0, "[0, 100]", "nats that a point must have to be told as the best (the paper: 4.8 for 1,024 tokens)")
    )

    def check(self, subject):
        self._settings(subject)
        subject.check_samples()

    def _settings(self, subject) -> dict[tuple[str, float], Any]:
        """{(setting, value): settings of the sampler}. UserError for one that is not possible."""
        points = points_of(self.frontier, self.frontier_points)
        return {point: self._base(subject, dict([point])) for point in points}

    def _base(self, subject, changes):
        """What the points share, with the changes {setting: value} of one of them."""
        shared = points_of(self.frontier_at, 2, "frontier_at") if self.frontier_at else []
        names = [name for name, _ in shared]
        if twice := next((name for name in names if names.count(name) > 1 or name in changes), None):
            raise UserError(f"frontier_at = {self.frontier_at!r} has {twice} where it takes several values: give one")
        return subject.settings(self.frontier_preset or None, **{**dict(shared), **changes})

    def write(self, subject):
        found, samples = {}, None
        measures = {name: measure for name, measure in subject.possible_measures.items() if name in MEASURED}
        for point, settings in self._settings(subject).items():
            samples = subject.gather_samples(settings).only(GENERATED, HELDOUT)
            found[point] = measure_samples(samples, measures)
        assert samples is not None
        comparable, figures, of_figures = subject.comparable_samples(), {}, {}
        for name, measure in measures.items():
            for point, of in found.items():
                figures[key := f"{name}_at_{point[0]}_{point[1]:g}"] = Figure(
                    f"{measure.title} at {_name(point)}", of[name], measure.better
                )
                of_figures[key] = comparable[OF_FIGURES].get(name, {})
        base = self._base(subject, {})
        return Section(
            "Frontier",
            f"each point changes one setting; {subject.describe_samples(samples, base)}",
            figures,
            {name: curve for name, curve in _curves(found).items() if any(line["x"] for line in curve.lines.values())},
            remarks=self._best(found),
            comparable={**comparable, OF_FIGURES: of_figures},
        )

    def _best(self, found):
        """The point of the lowest generation perplexity among those that are diverse enough."""
        values = {
            _name(point): (of[ENTROPY][GENERATED].value, of[PERPLEXITY][GENERATED].value)
            for point, of in found.items()
            if PERPLEXITY in of
        }
        able = {name: ppl for name, (nats, ppl) in values.items() if ppl is not None and nats >= self.entropy_floor}
        if not values:
            return ()
        if not able:
            return (f"no point has an entropy of at least {self.entropy_floor:g} nats",)
        best = min(able, key=lambda name: able[name])
        floor = f" among points of at least {self.entropy_floor:g} nats" if self.entropy_floor else ""
        return (f"lowest generation perplexity{floor}: {able[best]:.2f} at {best}",)


def _name(point):
    return f"{point[0]} = {point[1]:g}"


def _curves(found):
    """Perplexity against entropy, a line for each setting; and each measure against its values."""
    names = list(dict.fromkeys(name for name, _ in found))
    first = next(iter(found.values()))
    curves = {}
    if PERPLEXITY in first:
        lines = {
            name: _line([(of[ENTROPY][GENERATED].value, of[PERPLEXITY][GENERATED]) for of in _of(found, name)])
            for name in names
        }
        lines[HELDOUT] = _line([(first[ENTROPY][HELDOUT].value, first[PERPLEXITY][HELDOUT])])
        title = "Generation perplexity and entropy"
        curves["frontier"] = Curve(title, "entropy of a sequence (nats)", "generation perplexity", lines)
    for measure in (MAUVE, PERPLEXITY, ENTROPY):
        for name in names if measure in first else ():
            points = [(point[1], of[measure][GENERATED]) for point, of in found.items() if point[0] == name]
            title = f"{MEASURES[measure].title} by {name}"
            line = {GENERATED: _line(points), HELDOUT: _line([(x, first[measure][HELDOUT]) for x, _ in points])}
            curves[f"{measure}_by_{name}"] = Curve(title, name, MEASURES[measure].title, line, log_x=name in DOUBLED)
    return curves


def _of(found, name):
    return [of for (setting, _), of in found.items() if setting == name]


def _line(points: list[tuple[float | None, Interval]]) -> dict[str, list]:
    """Points (x, interval) as a line of a curve, in the order of x."""
    known = sorted(((x, y) for x, y in points if x is not None and y.value is not None), key=lambda point: point[0])
    line = {"x": [x for x, _ in known], "y": [y.value for _, y in known]}
    return {**line, "low": [y.low for _, y in known], "high": [y.high for _, y in known]}
