"""What a report is about: a trained model and a text, and what the parts of a report ask of them."""

import dataclasses
import functools
import hashlib

import jax
import numpy as np

from semdlm_jax import scores
from semdlm_jax.data.protocols import Rows, SomeRows
from semdlm_jax.data.scored import bits_per_byte, scored_bytes, scored_counts
from semdlm_jax.data.unknown import UNKNOWN_WARNED, unknown_share_of
from semdlm_jax.entropy import entropy, smoothed_cross_entropy
from semdlm_jax.evaluation.likelihood import Likelihood
from semdlm_jax.evaluation.report import MODEL, Figure, Section, around
from semdlm_jax.evaluation.store import Kept, Store
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.experiment.load import Trained
from semdlm_jax.options import counted

UNIGRAM = "unigram of train"  # a column: the model that knows token frequencies alone


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model and the rows that it is scored on.

    Attributes:
        trained: the model.
        rows: of the text.
        split: the name of the split, or of the file of the text.
        seed: of times, noise and samples.
        draws: times and corruptions of a row; None: as in the run's configuration.
        batch_size: rows scored at once; None: as in the run's configuration.
        store: of what is kept between calls.
    """

    trained: Trained
    rows: Rows
    split: str
    seed: int = 0
    draws: int | None = None
    batch_size: int | None = None
    store: Store = Store(None)

    @property
    def tokenizer(self):
        return scores.prepared_of(self.trained).tokenizer

    @functools.cached_property
    def identity(self) -> dict:
        """What every result depends on: weights, text and seed, as JSON."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.device_get(self.trained.params)):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        text = hashlib.sha256(np.asarray(self.rows.tokens, np.int64).tobytes()).hexdigest()
        options = {name: getattr(self, name) for name in ("seed", "draws", "batch_size")}
        evaluation = self.trained.config.evaluation.to_dict()
        return {"weights": digest.hexdigest(), "text": text, "rows": self.rows.describe(), **options, **evaluation}

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
        trained, rows, tokenizer = self.trained, self.rows, self.tokenizer
        options = {"seed": self.seed, "draws": self.draws, "batch_size": self.batch_size}
        found, protocol = scores.score_rows(trained, rows, **options, kept=self.kept("likelihood"))
        counts, size = scored_counts(rows, tokenizer.vocab_size), scored_bytes(rows, tokenizer)
        own, train = entropy(counts), smoothed_cross_entropy(counts, scores.prepared_of(trained).unigram)
        return Section(
            "Likelihood",
            protocol,
            _figures(found, size, train),
            details={
                "likelihood": dataclasses.asdict(found),
                "perplexity": found.perplexity,
                "perplexity_standard_error": found.perplexity_error,
                "scored_bytes": size,
                "bits_per_byte": bits_per_byte(found.nelbo, found.tokens, size),
                "bits_per_byte_standard_error": bits_per_byte(found.standard_error, found.tokens, size),
                "unigram_cross_entropy": train,
                "unigram_entropy": own,
                "unknown_share": (unknown := unknown_share_of(tokenizer, counts)),
            },
            remarks=_remarks(unknown),
        )


def _figures(found: Likelihood, size, train):
    """Of a likelihood; size: bytes of the text; train: nats per token of a unigram model."""
    bits, error = (bits_per_byte(x, found.tokens, size) for x in (found.nelbo, found.standard_error))
    return {
        "nelbo": Figure(
            "NELBO (nats/token)",
            {MODEL: around(found.nelbo, found.standard_error), UNIGRAM: around(train, None)},
            "lower",
        ),
        "perplexity": Figure("perplexity bound", {MODEL: around(found.perplexity, found.perplexity_error)}, "lower"),
        "bits_per_byte": Figure("bits per byte", {MODEL: around(bits, error)}, "lower"),
    }


def _remarks(unknown):
    if unknown <= UNKNOWN_WARNED:
        return ()
    return (
        f"{unknown:.1%} of the text is unknown to the vocabulary: there the score says how well the unknown token is "
        "predicted, not the text",
    )
