"""The theory's quantities of kernels, and its claims, as tables and plots."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from semdlm_jax.evaluation.report import Curve
from semdlm_jax.report.comparison import Block
from semdlm_jax.theory import Steps, Survey
from semdlm_jax.theory.claims import Claim

MEANING = {
    "d_act": "d_act: logits to fit (Eq. 16)",
    "h": "h(t): entropy of the posterior, nats",
    "I1": "I1: cost of an error of the logits (Eq. 54)",
    "repair": "what a step back removes of an error, at most",
    "gain": "log-odds that noise adds to a cluster, nats",
}
AXES = {"repair": "log10 of the share"}  # others have their own names
ROUNDING = 1e-14  # what float64 leaves of differences of numbers near 1


class Found(NamedTuple):
    """What was computed of a kernel.

    Attributes:
        name: of the kernel.
        keeps: [T], alpha_t.
        survey: means over states.
        steps: None where the kernel has no steps of any size.
        size: of a step back.
        whole: whether the steps are of all states.
        missing: why there are no steps; '' where there are.
    """

    name: str
    keeps: np.ndarray
    survey: Survey
    steps: Steps | None
    size: float
    whole: bool
    missing: str = ""

    def means(self) -> list[np.ndarray]:
        """The Geometry's means at every time."""
        return [np.asarray(self.survey.mean(values)[0]) for values in self.survey.geometry]

    def gains(self) -> np.ndarray:
        """[4, T]: medians over tokens of guaranteed, gained and cap, and the share of tokens with something guaranteed.
        NaN where no token has neighbors."""
        survey = self.survey
        share = np.asarray(survey.evidence) * survey.states.weights
        known = ~np.isnan(np.asarray(survey.amplification.gained)) & (share > 0)
        rows = []
        for t in range(len(share)):
            weight = np.where(known[t], share[t], 0)
            medians = [_median(np.asarray(values[t]), weight) for values in survey.amplification]
            positive = np.asarray(survey.amplification.guaranteed[t]) > 0
            rows.append([*medians, weight[positive].sum() / weight.sum() if weight.sum() else np.nan])
        return np.array(rows).T


def _median(values, weights):
    """The weighted median; NaN without weight."""
    order = np.argsort(np.where(weights > 0, values, np.inf), kind="stable")
    sums = np.cumsum(weights[order])
    return values[order][np.searchsorted(sums, sums[-1] / 2)] if sums[-1] > 0 else np.nan


def theory_blocks(found: Sequence[Found], protocol: str, epsilon: float) -> list[Block]:
    """The tables of each kernel, first side by side where there are several, with their plots."""
    blocks = [_summary(found, protocol, epsilon)]
    for one in found:
        blocks += [_posterior(one, epsilon), *_steps(one), *_clusters(one)]
    return blocks


def _summary(found, protocol, epsilon):
    head = ["mean over t", "d_act", f"d_act {epsilon:.2g}", "I1", "I2", "h", "D", "between"]
    rows = []
    for one in found:
        survey, gradients = one.survey, one.survey.gradients
        between = survey.total(gradients.between)
        share = between / (survey.total(gradients.within) + between)
        means = [survey.over_time(values) for values in one.means()]
        rows.append([one.name, *map(figure, [*means, survey.dispersion]), figure(share)])
    notes = [f"{one.name}: {_errors(one)}" for one in found if one.survey.states.sampled.any()]
    if not all(one.whole for one in found):
        notes.append("without all rows of a step repair has no lower bound, and lambda is at most what stands there")
    notes += [f"{one.name}: {one.missing}" for one in found if one.missing]
    if any(np.isnan(one.gains()).all() for one in found):
        notes.append("no odds of clusters, because no token has neighbors here: semantics.build makes a table of them")
    return Block("Kernels", notes=notes, protocols=[protocol], head=head, rows=rows, curves=_curves(found))


def _errors(one):
    survey = one.survey
    (h, error), states = survey.mean(survey.geometry.entropy), survey.states
    worst = int(np.argmax(error))
    return (
        f"a sample of {len(states.ids):,} states, {int((~states.sampled).sum()):,} of them for certain; standard error "
        f"of h at most {float(error[worst]):.1g} (of {float(h[worst]):.4g})"
    )


def _posterior(one, epsilon):
    survey = one.survey
    head = ["t", "keep", "d_act", f"d_act {epsilon:.2g}", "I1", "I2", "h"]
    rows = _rows(survey.times, [one.keeps, *one.means()])
    return Block(f"{one.name}: the posterior of a clean token", head=head, rows=rows)


def _steps(one):
    if one.steps is None:
        return []
    at_least, refresh, shared = map(np.asarray, one.steps)
    least = refresh if one.whole else np.full(len(refresh), np.nan)
    rows = _rows(one.survey.times, [least, 1 - at_least, shared])
    head = ["t", "repair at least", "repair at most", "lambda"]
    return [Block(f"{one.name}: a step back of {one.size:.4g}", head=head, rows=rows)]


def _clusters(one):
    gains = one.gains()
    if np.isnan(gains).all():
        return []
    head = ["t", "guaranteed", "gained", "cap", "tokens with a guarantee"]
    return [Block(f"{one.name}: the odds of a cluster", head=head, rows=_rows(one.survey.times, gains))]


def _rows(times, columns):
    return [[f"{t:.4f}", *map(figure, values)] for t, *values in zip(np.asarray(times), *columns, strict=True)]


def _curves(found):
    lines: dict[str, dict] = {name: {} for name in MEANING}
    for one in found:
        active, _, sensitivity, _, entropy = one.means()
        drawn = {"d_act": active, "h": entropy, "I1": sensitivity, "gain": one.gains()[1]}
        drawn |= {} if one.steps is None else {"repair": _log10(1 - np.asarray(one.steps.at_least))}
        for name, values in drawn.items():
            if np.isfinite(np.asarray(values)).any():
                lines[name][one.name] = _line(one.survey.times, values)
    return [Curve(MEANING[name], "t", AXES.get(name, name), drawn) for name, drawn in lines.items() if drawn]


def _log10(values):
    return np.log10(np.where(values > ROUNDING, values, np.nan))


def _line(x, y) -> Mapping[str, list]:
    return {
        "x": np.asarray(x).tolist(),
        "y": [float(value) if np.isfinite(value) else None for value in np.asarray(y)],
    }


def figure(value: float) -> str:
    """A number with four digits; '–' where there is none."""
    value = float(value)
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if abs(value) < ROUNDING:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def claim_blocks(claims: Iterable[Claim]) -> list[Block]:
    """A block for each claim."""
    return [
        Block(
            f"{one.place}: {one.verdict}",
            protocols=[f"claim: {one.says}", f"why: {one.why}"],
            head=["", "value"],
            rows=[[name, figure(value)] for name, value in one.numbers.items()],
        )
        for one in claims
    ]
