"""What a report is about: a trained model and a text, and what the parts of a report ask of them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax

from semdlm_jax import scores, zero_shot
from semdlm_jax.data.protocols import Rows, SomeRows
from semdlm_jax.data.scored import digest_of_tokens
from semdlm_jax.data.unknown import unknown_remarks
from semdlm_jax.data.zero_shot import Text, has_splits, open_text
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.measures import Measure, choose_measures
from semdlm_jax.evaluation.parts import Part
from semdlm_jax.evaluation.report import MODEL, OF_FIGURES, Section, around, likelihood_figures
from semdlm_jax.evaluation.samples import BIGRAM_TOKENS, GENERATED, HELDOUT, Samples
from semdlm_jax.evaluation.store import Kept, Store
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.experiment.load import Trained
from semdlm_jax.generate import BATCH_SIZE, generate
from semdlm_jax.kernels import KernelBase
from semdlm_jax.objectives import Objective
from semdlm_jax.options import counted
from semdlm_jax.samplers.presets import make_settings
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.scorers import Embedder, Scored, Scorer
from semdlm_jax.storage import digest_of

UNIGRAM = "unigram of train"  # a column: the model that knows token frequencies alone
SHORT = 16  # digits of a digest that readers see


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model and the rows that it is scored on.

    Attributes:
        trained: the model.
        rows: of the text.
        name: where the model comes from.
        split: the name of the split, or of the file of the text.
        seed: of times, noise and samples.
        draws: times and corruptions of a row; None: as in the run's configuration.
        batch_size: rows scored at once; None: as in the run's configuration.
        samples: how many texts to generate; None: as in the run's configuration.
        measures: of samples, by name; None: all that can be taken.
        scorer: of generated text; None for none.
        embedder: of texts, for measures that compare features; None: the scorer.
        beside: {column: model} of others whose samples stand in columns of their own.
        store: of what is kept between calls.
    """

    trained: Trained
    rows: Rows
    name: str
    split: str
    seed: int = 0
    draws: int | None = None
    batch_size: int | None = None
    samples: int | None = None
    measures: Sequence[str] | None = None
    scorer: Scorer | None = None
    embedder: Embedder | None = None
    beside: Mapping[str, Trained] = dataclasses.field(default_factory=dict)
    store: Store = Store(None)

    @property
    def tokenizer(self):
        return scores.prepared_of(self.trained).tokenizer

    @property
    def kernel(self) -> KernelBase:
        """Of a diffusion model."""
        return cast(Objective, self.trained.objective).kernel

    @functools.cached_property
    def identity_of_model(self) -> dict:
        """What a result on any text depends on: weights, kernel, options and seed, as JSON."""
        config = self.trained.config.to_dict()
        return {
            "weights": self.trained.digest,
            "data": self.trained.corpus.identity,
            **{section: config[section] for section in ("kernel", "objective", "network", "evaluation")},
            "given": {name: getattr(self, name) for name in ("seed", "draws", "batch_size")},
        }

    @functools.cached_property
    def identity(self) -> dict:
        """What every result depends on: weights, text and seed, as JSON."""
        return {
            **self.identity_of_model,
            "text": digest_of_tokens(self.rows.tokens),
            "rows": self.rows.describe(),
        }

    def comparable(self, **more: Any) -> dict:
        """What must be equal for two likelihoods to be compared, as JSON. more: {name: value} of a part's own."""
        evaluation = self.trained.config.evaluation
        return {
            "text": digest_of_tokens(self.rows.tokens)[:SHORT],
            "rows": self.rows.describe(),
            "tokenizer": self.tokenizer.fingerprint[:SHORT],
            "t_min": evaluation.t_min,
            "t_max": evaluation.t_max,
            **more,
        }

    def section(self, name: str, part: Part, tell: Callable[[str], None]) -> dict:
        """A part's section as JSON, kept."""
        of = [self.identity, name, dataclasses.asdict(cast(Any, part)), *part.depends_on(self)]
        if part.needs_split:
            beside = [[name, model.digest, str(default_settings(model))] for name, model in self.beside.items()]
            of += [self.comparable_samples(), beside, jax.device_count()]
        return {"of": digest_of(self.identity), **self.store.section(name, of, lambda: part.write(self), tell)}

    def kept_sections(self) -> dict[str, dict]:
        """Those of an earlier report on the same model and text."""
        mark = digest_of(self.identity)
        return {name: section for name, section in self.store.sections().items() if section.get("of") == mark}

    def describe(self, score: str, rows: Rows) -> str:
        """The protocol of a score of these rows, in words."""
        few = "" if rows.ordered_count == self.rows.ordered_count else f" of {self.rows.ordered_count}"
        return f"{counted(rows.ordered_count, 'row')}{few}; {scores.describe_score(self.trained, rows, score)}"

    def some_rows(self, number: int) -> Rows:
        """So many rows, evenly spaced over the text; all of them for 0, or where there are no more."""
        count = self.rows.ordered_count
        return self.rows if not 0 < number < count else SomeRows.evenly(self.rows, number)

    def kept(self, name: str, **options) -> Kept:
        """What an earlier call of the same work saved."""
        return self.store.kept(name, [self.identity, options])

    def path_log_weights(self, rows: Rows, path: int | str, copies: int):
        """See `scores.path_log_weights`."""
        kept = self.kept("paths", path=path, copies=copies, rows=rows.ordered_count)
        return scores.path_log_weights(
            self.trained, rows, path, copies, seed=self.seed, batch_size=self.batch_size, kept=kept
        )

    def position_terms(self):
        """(`scores.position_terms`, the uniforms [N, D] that place their times)."""
        draws = scores.draws_of(self.trained, self.draws)
        options = {"seed": self.seed, "draws": draws, "batch_size": self.batch_size}
        terms = scores.position_terms(self.trained, self.rows, **options, kept=self.kept("positions"))
        return terms, stratified_uniforms(self.seed, self.rows.ordered_count, draws)

    def score(self) -> Section:
        """The likelihood of all rows, and what to compare it with."""
        trained, rows = self.trained, self.rows
        options = {"seed": self.seed, "draws": self.draws, "batch_size": self.batch_size}
        found, protocol = scores.score_rows(trained, rows, **options, kept=self.kept("likelihood"))
        details = scores.likelihood_details(trained, rows, found)
        return Section(
            "Likelihood",
            protocol,
            _figures(details),
            details=details,
            remarks=unknown_remarks(details["unknown_share"]),
            comparable=self.comparable(),
        )

    # Other texts.

    def open_texts(self, names: Sequence[str], split: str, documents: int, field: str) -> list[Text]:
        """See `data.zero_shot.open_text`. UserError, too: a split is asked for, and no text has any."""
        if split and not any(map(has_splits, names)):
            raise UserError(f"--corpus_split={split}, but files that are named are scored whole: leave the flag out")
        return [open_text(name, split, documents, field) for name in names]

    def stamps(self, texts: Sequence[Text]) -> list[str]:
        """See `zero_shot.stamps`."""
        return zero_shot.stamps(texts)

    def score_texts(self, texts: Sequence[Text]) -> Section:
        """See `zero_shot.score_texts`; rows are those of the report's protocol where a text has none of its own."""
        return zero_shot.score_texts(self, texts, self.rows.name)

    # Samples.

    @property
    def num_samples(self) -> int:
        return self.trained.config.evaluation.samples if self.samples is None else self.samples

    @functools.cached_property
    def chosen_measures(self) -> dict[str, Measure]:
        return self._choose(self.measures)

    @property
    def possible_measures(self) -> dict[str, Measure]:
        """All of the package that can be taken, whichever are chosen."""
        return self._choose(None)

    def _choose(self, names):
        """Measures that can be taken of the samples and of as many held-out rows that are left to compare with."""
        count = min(self.num_samples, self.trained.rows(self.split).count // 2)
        return choose_measures(names, count, self.given)

    def check_samples(self) -> None:
        """UserError where samples cannot be generated and measured."""
        if not self.num_samples:
            raise UserError("--samples=0 leaves nothing to measure: give at least 1, or name no part on samples")
        scores.check_held_out(self.trained, self.split)
        if not self.chosen_measures:
            raise UserError(f"no measure can be taken of {counted(self.num_samples, 'sample')}: give more --samples")
        for column, other in self.beside.items():
            if scores.prepared_of(other).tokenizer.pieces != self.tokenizer.pieces:
                raise UserError(f"{column} has another vocabulary than {self.name}: their samples do not compare")
            if other.rows("train").length != self.trained.rows("train").length:
                raise UserError(f"{column} writes rows of another length than {self.name}: samples do not compare")

    @property
    def given(self) -> set[str]:
        """Of `measure.NEEDS`, what is at hand."""
        return scores.given_of(self.scorer, self.embedder)

    def settings(self, preset: str | None = None, /, **changes) -> SamplingSettings:
        """How a sampler works: as the run's configuration says, or a preset, with changes."""
        own = default_settings(self.trained)
        kept = {"strides": own.strides, "temperature": own.temperature} if preset is None else {}
        return make_settings(preset, **{"steps": own.steps, **kept, **changes})

    def gather_samples(self, settings: SamplingSettings | None = None) -> Samples:
        """Generated rows of this model, held-out rows and controls. settings: of the sampler; None: as the
        configuration says, and rows of the models beside it, too."""
        models = {GENERATED: self.trained, **(self.beside if settings is None else {})}
        written = {
            column: self._written(model, settings or default_settings(model)) for column, model in models.items()
        }
        score = None if self.scorer is None else functools.partial(self._score, self.scorer)
        embed = None if self.embedder is None else functools.partial(self._embed, self.embedder)
        return scores.gather_samples(self.trained, self.split, written, seed=self.seed, score=score, embed=embed)

    def _written(self, model, settings):
        """Rows that a model generates, kept."""
        count = self.num_samples
        of = [model.digest, self.seed, count, str(settings), jax.device_count()]

        def write():
            return [generate(model, settings, num_samples=count, seed=self.seed)[0]]

        return self.store.remember("samples", of, write)[0]

    def _score(self, scorer, texts):
        """A scorer's scores, kept."""
        of = [scorer.name, scorer.protocol, list(texts)]
        return Scored(*self.store.remember("scored", of, lambda: list(scorer.score(texts))))

    def _embed(self, embedder, texts):
        """An embedder's features, kept."""
        of = [embedder.name, embedder.protocol, list(texts)]
        return self.store.remember("embedded", of, lambda: [embedder.features(texts)])[0]

    def comparable_samples(self) -> dict:
        """What must be equal for measures of two models' samples to be compared, as JSON: not how they are drawn."""
        splits = scores.prepared_of(self.trained).splits
        known = {
            "train": digest_of_tokens(splits["train"][:BIGRAM_TOKENS])[:SHORT],
            "neighbors": self.trained.corpus.identity.get("neighbor table", "none")[:SHORT],
        }
        return {
            "held-out text": digest_of_tokens(splits[self.split])[:SHORT],
            "rows": self.trained.rows(self.split).describe(),
            "tokenizer": self.tokenizer.fingerprint[:SHORT],
            "samples": self.num_samples,
            "scorer": "none" if self.scorer is None else f"{self.scorer.name}: {self.scorer.protocol}",
            "embedder": "none" if self.embedder is None else f"{self.embedder.name}: {self.embedder.protocol}",
            OF_FIGURES: {
                name: {**dataclasses.asdict(cast(Any, measure)), **{what: known[what] for what in measure.reads}}
                for name, measure in self.chosen_measures.items()
            },
        }

    def describe_samples(self, samples: Samples, settings: SamplingSettings | None = None) -> str:
        """The protocol of the measures in words. settings: of the sampler, as for `gather_samples`."""
        count, batch = self.num_samples, min(self.num_samples, BATCH_SIZE)
        drawn = f"seed {self.seed}, {batch} at once on {counted(jax.device_count(), 'device')}"
        parts = [f"{counted(count, 'sample')}, {settings or default_settings(self.trained)}; {drawn}"]
        parts.append(f"{len(samples.rows[HELDOUT])} held-out rows of {self.split}, as many of each control")
        if self.scorer is not None:
            parts.append(f"scorer {self.scorer.name}: {self.scorer.protocol}")
        if model := self.embedder or self.scorer:
            parts.append(f"compared with {len(samples.reference)} other held-out rows by features of {model.name}")
        if self.embedder is not None:
            parts.append(self.embedder.protocol)
        return "; ".join(parts) + "; 95 % bootstrap intervals over texts"


def default_settings(trained: Trained) -> SamplingSettings:
    """How a run's configuration says that its samples are drawn."""
    evaluation = trained.config.evaluation
    return make_settings(
        steps=evaluation.sample_steps,
        strides=1 if trained.objective.exact else evaluation.strides,
        temperature=evaluation.temperature,
    )


def _figures(details):
    """Of `scores.likelihood_details`."""
    train = {UNIGRAM: around(details["unigram_cross_entropy"], None)}
    figures = likelihood_figures({MODEL: details})
    return {**figures, "nelbo": dataclasses.replace(figures["nelbo"], values={**figures["nelbo"].values, **train})}
