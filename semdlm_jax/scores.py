"""The likelihood of a trained model, and its samples beside held-out text, in Python."""

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from semdlm_jax.data.pipeline import eval_batches, scored_rows
from semdlm_jax.data.prepared import Prepared
from semdlm_jax.data.protocols import make_rows, read_row
from semdlm_jax.data.scored import bits_per_byte, scored_bytes, scored_counts
from semdlm_jax.data.unknown import unknown_share_of
from semdlm_jax.entropy import entropy, smoothed_cross_entropy
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import controls
from semdlm_jax.evaluation.likelihood import collect, compile_whole, summarize
from semdlm_jax.evaluation.measure import FEATURES, SCORES
from semdlm_jax.evaluation.measures import choose_measures, measure_samples
from semdlm_jax.evaluation.samples import GENERATED, HELDOUT, PERIODIC, SHUFFLED, UNIGRAM, Samples
from semdlm_jax.evaluation.store import Kept
from semdlm_jax.experiment.build import build_score, scoring_of, whole_rows
from semdlm_jax.generate import generate
from semdlm_jax.keys import check_options
from semdlm_jax.objectives.scoring import ONE_IN
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.runtime.progress import Progress


def score_likelihood(trained, tokens, protocol=None, **options):
    """Scores a token stream as rows of a protocol (the run's own if None); see `score_rows`."""
    return score_rows(trained, rows_of(trained, tokens, protocol), **options)


def rows_of(trained, tokens, protocol=None):
    """A token stream as rows of a protocol; of the run's own protocol if None."""
    data = trained.config.data
    return make_rows(protocol or data.protocol, tokens, data.length, prepared_of(trained).tokenizer)


def prepared_of(trained) -> Prepared:
    """The prepared text of a run. UserError where there is none."""
    if trained.corpus.prepared is None:
        raise UserError("this run was trained on synthetic tokens: there is no text to score")
    return trained.corpus.prepared


def score_rows(trained, rows, *, seed=0, draws=None, batch_size=None, posterior=None, kept=Kept(None)):
    """Scores rows under the EMA weights. An argument that is None is taken from the run's configuration.

    Args:
        trained: the model.
        rows: protocols.Rows.
        seed: of times and noise.
        draws: times and corruptions of each row.
        batch_size: rows at once; it changes only speed and memory.
        posterior: used instead of the run's own.
        kept: what an earlier call with the same arguments saved is not done again.

    Returns:
        (Likelihood, the protocol in words).

    Raises:
        UserError: the network gives no finite number.
    """
    draws = draws_of(trained, draws)
    check_options("flags", draws=draws, seed=seed)
    compiled = _program(trained, posterior)
    options = {"seed": seed, "draws": draws, "batch_size": batch_size, "label": "NELBO", "kept": kept}
    terms = collect_rows(trained, compiled, rows, **options)
    result = summarize(terms)
    if not math.isfinite(result.nelbo):
        raise UserError(_diverged(trained, f"NELBO {result.nelbo}"))
    evaluation = trained.config.evaluation
    bound = (
        f"continuous-time bound, {draws} t in [{evaluation.t_min:g}, {evaluation.t_max:g}] a row with a corruption "
        f"each, stratified over rows and draws, seed {seed}, prior and reconstruction included (of one row in {ONE_IN})"
    )
    score = "exact likelihood by the chain rule, nothing before a row's first token"
    return result, describe_score(trained, rows, score if trained.objective.exact else bound)


def _program(trained, posterior):
    """The compiled form of the bound; of the model's own posterior it is kept, for the next text."""
    if posterior is not None:
        return build_score(trained.config, trained.denoiser, trained.objective, trained.mesh, posterior)
    key = scoring_of(trained.config)
    if key not in trained.programs:
        trained.programs[key] = build_score(trained.config, trained.denoiser, trained.objective, trained.mesh)
    return trained.programs[key]


def likelihood_details(trained, rows, found) -> dict:
    """A `Likelihood` of rows with all that is reported beside it, as JSON: perplexity, bits per byte, what a unigram
    model of train and the rows' own frequencies give, the unknown share."""
    prepared = prepared_of(trained)
    tokenizer = prepared.tokenizer
    counts, size = scored_counts(rows, tokenizer.vocab_size), scored_bytes(rows, tokenizer)
    return {
        **dataclasses.asdict(found),
        "perplexity": found.perplexity,
        "perplexity_standard_error": found.perplexity_error,
        "scored_bytes": size,
        "bits_per_byte": bits_per_byte(found.nelbo, found.tokens, size),
        "bits_per_byte_standard_error": bits_per_byte(found.standard_error, found.tokens, size),
        "unigram_cross_entropy": smoothed_cross_entropy(counts, prepared.unigram),
        "unigram_entropy": entropy(counts),
        "unknown_share": unknown_share_of(tokenizer, counts),
    }


def draws_of(trained, draws=None):
    """How often each row is corrupted: as the configuration says if None; once if the likelihood is exact."""
    draws = trained.config.evaluation.draws if draws is None else draws
    return 1 if trained.objective.exact else draws


def describe_score(trained, rows, score):
    """The protocol of a score in words."""
    own = trained.config.data.protocol
    elsewhere = f", trained on {own} rows" if rows.name != own else ""
    return f"{rows.describe()}; {score}; EMA weights, step {trained.step}{elsewhere}"


def collect_rows(trained, compiled, rows, *, seed=0, draws=1, batch_size=None, label="", calls=1, kept=Kept(None)):
    """`evaluation.likelihood.collect` of all rows, with a progress bar.

    Args:
        trained: the model.
        compiled: (params, key, batch, draw) -> pytree of [B, …].
        rows: protocols.Rows.
        seed, draws: of times and noise.
        batch_size: rows at once; None: as in the configuration.
        label: of the progress bar; calls: of the network in a draw, for the speed that it shows.
        kept: what an earlier call with the same arguments saved is not done again.
    """
    batch_size = whole_rows(batch_size or trained.config.evaluation.batch_size, trained.mesh)
    count = scored_rows(rows)
    steps = -(-count // batch_size) * draws
    with Progress(steps, units_per_step=batch_size * rows.length * calls, label=label) as progress:
        place = functools.partial(place_batch, mesh=trained.mesh)
        batches = eval_batches(rows, batch_size)
        options: Any = {"draws": draws, "place": place, "progress": progress.update, "kept": kept}
        return collect(compiled, trained.params, batches, count, seed, **options)


def path_log_weights(trained, rows, path, copies, *, seed=0, batch_size=None, kept=Kept(None)):
    """Log weights of paths from noise to the text of each row, under the EMA weights.

    Args:
        trained: the model.
        rows: protocols.Rows.
        path: a number of steps, or an order of unmasking: see `objectives.paths`.
        copies: D, paths of each row.
        seed: of the noise.
        batch_size: rows at once.
        kept: what an earlier call with the same arguments saved is not done again.

    Returns:
        (log weights [D, N] nats, tokens [N] of the rows).

    Raises:
        UserError: the model has no such paths, or the network gives no finite number.
    """
    scoring = scoring_of(trained.config)
    function = trained.objective.path_log_weights(trained.denoiser, scoring, path)
    calls = rows.length if isinstance(path, str) else path
    options = {"seed": seed, "draws": copies, "batch_size": batch_size, "label": "paths", "calls": calls}
    options["kept"] = kept
    found = collect_rows(trained, compile_whole(function, trained.mesh), rows, **options)[:, : scored_rows(rows)]
    if not np.isfinite(found).all():
        raise UserError(_diverged(trained, f"log weight {found[~np.isfinite(found)][0]}"))
    return found, np.array([rows.ordered_row(index)[1].sum() for index in range(scored_rows(rows))])


def position_terms(trained, rows, *, seed=0, draws=1, batch_size=None, kept=Kept(None)):
    """The terms of the bound at every position: SequenceTerms of [D, N, L], under the EMA weights."""
    function = trained.objective.position_terms(trained.denoiser, scoring_of(trained.config))
    options = {"seed": seed, "draws": draws, "batch_size": batch_size, "label": "positions", "kept": kept}
    found = collect_rows(trained, compile_whole(function, trained.mesh), rows, **options)
    return jax.tree.map(lambda x: x[:, : scored_rows(rows)], found)


def _diverged(trained, shown):
    return (
        f"the network of step {trained.step} gives no finite likelihood ({shown}): its training diverged, or its "
        "weights are damaged: take another checkpoint or train anew"
    )


HELD_OUT_ROWS = 256  # of each of the two groups of held-out rows, or as many as there are samples


def compare_samples(trained, split, settings, *, num_samples, seed=0, measures=None, score=None, embed=None):
    """Compares generated rows with the complete rows of a split and with controls.

    Args:
        trained: the model.
        split: with the held-out rows.
        settings: of the sampler.
        num_samples: rows to generate.
        seed: of the samples, the choice of held-out rows, the controls and the intervals.
        measures: names of MEASURES, or module:Class; None: all that can be taken.
        score: `Scorer.score`; None without a scorer.
        embed: `Embedder.features`; None: the scorer's own.

    Returns:
        {measure: {generated, heldout, …: Interval}}, without a value where the measure is not defined for such rows.

    Raises:
        UserError: the split has no complete row, or a measure is unknown.
    """
    chosen = choose_measures(measures, num_samples, given_of(score, embed))
    check_held_out(trained, split)
    written, _ = generate(trained, settings, num_samples=num_samples, seed=seed)
    samples = gather_samples(trained, split, {GENERATED: written}, seed=seed, score=score, embed=embed)
    return measure_samples(samples, chosen)


def given_of(score, embed) -> set[str]:
    """Of `measure.NEEDS`, what a scorer and an embedder give, each None where there is none."""
    return {SCORES, FEATURES} if score is not None else {FEATURES} if embed is not None else set()


def check_held_out(trained, split):
    """UserError: the split has no complete row to compare samples with."""
    rows = trained.rows(split)
    if not rows.count:
        raise UserError(
            f"the {split} split does not fill a row of {rows.length} tokens to compare samples with: give --samples=0"
        )


def gather_samples(trained, split, written, *, seed=0, score=None, embed=None) -> Samples:
    """Generated rows beside held-out rows and controls, all without padding.

    Args:
        trained: the model.
        split: with the held-out rows.
        written: {column: rows [N, L]}, GENERATED and more.
        seed: of the choice of held-out rows, and of the controls.
        score: `Scorer.score`; None without a scorer.
        embed: `Embedder.features`; None: the scorer's own.
    """
    prepared, rows = prepared_of(trained), trained.rows(split)
    tokenizer, special = prepared.tokenizer, trained.corpus.special_ids
    wanted = max(HELD_OUT_ROWS, *map(len, written.values()))
    half = min(wanted, (rows.count + 1) // 2)
    picked = np.random.default_rng(seed).permutation(rows.count)[: 2 * half]
    held_out = _unpadded([rows.ordered_row(index)[0] for index in picked[:half]], tokenizer)
    reference = _unpadded([rows.ordered_row(index)[0] for index in picked[half:]], tokenizer)
    columns = {
        **{name: _unpadded(each, tokenizer) for name, each in written.items()},
        HELDOUT: held_out,
        SHUFFLED: controls.shuffled(held_out, seed=seed, special_ids=special),
        UNIGRAM: controls.unigram(held_out, prepared.unigram, seed=seed, special_ids=special),
        PERIODIC: controls.periodic(held_out, seed=seed, special_ids=special),
    }
    texts = {name: [read_row(tokenizer, row) for row in group] for name, group in columns.items()}
    return Samples(
        columns,
        texts,
        [read_row(tokenizer, row) for row in reference],
        trained.corpus.table,
        prepared.splits["train"],
        tokenizer.decode,
        seed,
        score,
        embed,
    )


def _unpadded(rows, tokenizer) -> list[np.ndarray]:
    return [row[row != tokenizer.pad_id] for row in rows]
