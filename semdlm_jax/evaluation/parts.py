"""The parts of a report: likelihood, tighter bounds, curves, samples.

To add one: extend `Part` and list it in PARTS. Its fields are flags of `evaluate`.
"""

import contextlib
import dataclasses
from typing import ClassVar

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.frontier import FrontierPart
from semdlm_jax.evaluation.importance import importance_bounds
from semdlm_jax.evaluation.likelihood import error_of_ratio
from semdlm_jax.evaluation.measures import measure_samples, preferred_controls
from semdlm_jax.evaluation.part import Part
from semdlm_jax.evaluation.report import MODEL, Curve, Figure, Section, around, exp_of
from semdlm_jax.objectives.paths import ORDERS
from semdlm_jax.options import counted, number, numbers_in, text
from semdlm_jax.plugins import Registry, field

BINS = 20  # of the curve over times


@dataclasses.dataclass(frozen=True)
class LikelihoodPart(Part):
    """The NELBO of a split or a text, or the exact likelihood of an autoregressive model."""

    def write(self, subject):
        return subject.score()


def _some(option):
    return number(option, "[0, 1073741824]", "rows that are scored so, evenly spaced over the text; 0: all")


@dataclasses.dataclass(frozen=True)
class ImportancePart(Part):
    """Bounds by several paths a row, which fall to the likelihood of the sampler as their number grows."""

    copies: str = field(text("1,10,100", "paths a row, of each importance-weighted bound"))
    path_steps: int = field(
        number(0, "[0, 65536]", "steps of a path; 0: 128, and under masks a token at a time in random order")
    )
    path_rows: int = field(_some(64))

    def __post_init__(self):
        super().__post_init__()
        if not self.numbers:
            raise UserError("copies is empty: give numbers of paths a row, as '1,10,100'")

    @property
    def numbers(self):
        return tuple(sorted(set(numbers_in("copies", self.copies, "[1, 1048576]", kind=int))))

    def check(self, subject):
        if subject.trained.objective.exact:
            raise UserError("importance: this model's likelihood is exact, there is no bound to tighten: leave it out")

    def path(self, kernel):
        return self.path_steps or ("random" if kernel.only_masks else 128)

    def write(self, subject):
        path, rows = self.path(subject.kernel), subject.some_rows(self.path_rows)
        weights, tokens = subject.path_log_weights(rows, path, self.numbers[-1])
        bounds = importance_bounds(weights, tokens, self.numbers)
        figures = {}
        for copies, bound in bounds.items():
            values = {MODEL: around(bound.nats, bound.error)}
            title = f"bound by {counted(copies, 'path')} of a row (nats/token)"
            figures[f"importance_{copies}"] = Figure(title, values, "lower")
            values = {MODEL: exp_of(values[MODEL])}
            figures[f"perplexity_{copies}"] = Figure("its perplexity", values, "lower")
        how = "one token at a time in random order" if path == "random" else f"paths of {counted(path, 'even step')}"
        return Section(
            "Importance-weighted bounds",
            subject.describe(f"{how}, bounds of the sampler that takes them, seed {subject.seed}", rows),
            figures,
            {"copies": _curve_of(bounds)},
            {"path": path, "variance_of_log_weights": float(weights.var(0).mean())},
            comparable=subject.comparable(scored_rows=rows.ordered_count, path=path),
        )


def _curve_of(bounds):
    values = [around(*bound) for bound in bounds.values()]
    line = {"x": list(bounds), **{end: [getattr(v, name) for v in values] for name, end in ENDS.items()}}
    return Curve("Bound by the number of paths", "paths a row", "nats per token", {MODEL: line}, log_x=True)


ENDS = {"value": "y", "low": "low", "high": "high"}


@dataclasses.dataclass(frozen=True)
class UnmaskingPart(Part):
    """The exact likelihood of a model of masks whose tokens are revealed one at a time, by a rule."""

    orders: str = field(text("left_to_right,confidence", "rules by which tokens are revealed"))
    unmasking_rows: int = field(_some(0))

    def __post_init__(self):
        super().__post_init__()
        rules = [name for name in ORDERS if name != "random"]
        for name in self.names or [""]:
            if name not in rules:
                raise UserError(f"orders = {self.orders!r} holds {name!r}, which is no rule: give {' or '.join(rules)}")

    @property
    def names(self):
        return tuple(filter(None, (name.strip() for name in self.orders.split(","))))

    def check(self, subject):
        objective = subject.trained.objective
        if objective.exact or not subject.kernel.only_masks:
            raise UserError("unmasking: the noise of this model is not masks alone, so there is no order: leave it out")

    def write(self, subject):
        rows, figures = subject.some_rows(self.unmasking_rows), {}
        for name in self.names:
            weights, tokens = subject.path_log_weights(rows, name, 1)
            nats = -weights[0].astype(np.float64)
            value = around(float(nats.sum() / tokens.sum()), error_of_ratio(nats, tokens))
            title = f"exact likelihood, {name.replace('_', ' ')} (nats/token)"
            figures[name] = Figure(title, {MODEL: value}, "lower")
            figures[f"perplexity_{name}"] = Figure("its perplexity", {MODEL: exp_of(value)}, "lower")
        how = "one token at a time, by a rule that reads what is revealed: exact for that sampler"
        comparable = subject.comparable(scored_rows=rows.ordered_count)
        return Section("Deterministic unmasking", subject.describe(how, rows), figures, comparable=comparable)


@dataclasses.dataclass(frozen=True)
class CurvesPart(Part):
    """Where the likelihood is lost: by time, and by position in a row."""

    def write(self, subject):
        terms, uniforms = subject.position_terms()
        tokens = terms.tokens[0].astype(np.float64)
        total = (terms.integral + terms.prior + terms.reconstruction).astype(np.float64).mean(0)
        counts = tokens.sum(0)
        used = counts > 0
        positions = {"x": (np.flatnonzero(used) + 1).tolist(), "y": (total.sum(0)[used] / counts[used]).tolist()}
        curves = {"position": Curve("NELBO by position", "position", "nats per token", {MODEL: positions})}
        if not subject.trained.objective.exact:
            curves["time"] = self._by_time(subject, terms, uniforms, tokens.sum())
        nelbo = {MODEL: around(float(total.sum() / tokens.sum()), error_of_ratio(total.sum(1), tokens.sum(1)))}
        figures = {"nelbo": Figure("NELBO of these draws (nats/token)", nelbo, "lower")}
        how = f"{counted(len(terms.integral), 'draw')} a row, seed {subject.seed}"
        protocol = subject.describe(how, subject.rows)
        return Section("Where it is lost", protocol, figures, curves, comparable=subject.comparable())

    def _by_time(self, subject, terms, uniforms, tokens):
        """The integrand in BINS equal parts of the range of times, each with the mean of what falls there."""
        evaluation = subject.trained.config.evaluation
        width = evaluation.t_max - evaluation.t_min
        rates = terms.integral.astype(np.float64).sum(2) / width  # [D, N]
        bins = np.minimum((uniforms.T * BINS).astype(int), BINS - 1)
        sums = np.bincount(bins.ravel(), rates.ravel(), BINS)
        lengths = np.broadcast_to(terms.tokens[0].sum(1), bins.shape)
        counts = np.maximum(np.bincount(bins.ravel(), lengths.ravel(), BINS), 1)
        times = evaluation.t_min + width * (np.arange(BINS) + 0.5) / BINS
        line = {"x": times.tolist(), "y": (sums / counts).tolist()}
        return Curve("Integrand by time", "t", "nats per token and unit of t", {MODEL: line})


@dataclasses.dataclass(frozen=True)
class GenerationPart(Part):
    """Generated text beside held-out text and controls."""

    needs_split: ClassVar[bool] = True

    def check(self, subject):
        subject.check_samples()

    def write(self, subject):
        samples, measures = subject.gather_samples(), subject.chosen_measures
        figures, remarks = {}, []
        for name, found in measure_samples(samples, measures).items():
            measure = measures[name]
            title = measure.title or name
            figures[name] = Figure(title, found, measure.better, measure.meaning)
            remarks += preferred_controls(title, measure, found)
        return Section(
            "Generated text",
            subject.describe_samples(samples),
            figures,
            remarks=tuple(remarks),
            comparable=subject.comparable_samples(),
        )


@dataclasses.dataclass(frozen=True)
class ZeroShotPart(Part):
    """The perplexity of texts that are named, each with the protocol of its own."""

    needs_text: ClassVar[bool] = False

    corpora: str = field(
        text("", "texts, with commas between: ptb, wikitext103, lm1b, lambada, ag_news, pubmed, arxiv, text:FILES …")
    )
    corpus_split: str = field(
        text(
            "",
            "their split; '': test, and of the seven named sets the one that MDLM scores",
            among=("", "train", "valid", "test"),
        )
    )
    corpus_documents: int = field(number(0, "[0, 1000000000]", "documents of each that are scored, the first; 0: all"))
    corpus_field: str = field(
        text("text", "field or column of the documents in files of many, but of the seven sets", filled=True)
    )

    @property
    def names(self):
        return tuple(filter(None, (name.strip() for name in self.corpora.split(","))))

    def check(self, subject):
        if not self.names:
            raise UserError("zero_shot: --corpora names no text: give some, as --corpora=ptb,text:FILE")
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise UserError(f"--corpora names {twice} twice: name each text once")
        self._open(subject)

    def depends_on(self, subject):
        return subject.stamps(self._open(subject))

    def write(self, subject):
        with _words_of_flags():
            return subject.score_texts(self._open(subject))

    def _open(self, subject):
        with _words_of_flags():
            return subject.open_texts(self.names, self.corpus_split, self.corpus_documents, self.corpus_field)


@contextlib.contextmanager
def _words_of_flags():
    """Readers of documents speak of the key of a configuration; here a flag gives it."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("data.field", "--corpus_field")) from None


PARTS = Registry(
    "part of a report",
    Part,
    {
        "likelihood": LikelihoodPart,
        "importance": ImportancePart,
        "unmasking": UnmaskingPart,
        "curves": CurvesPart,
        "generation": GenerationPart,
        "frontier": FrontierPart,
        "zero_shot": ZeroShotPart,
    },
)
