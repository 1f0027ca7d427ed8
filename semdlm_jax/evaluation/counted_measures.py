"""Measures of samples that count tokens and words, without another model."""

import dataclasses
from typing import ClassVar

import numpy as np

from semdlm_jax import extras
from semdlm_jax.evaluation import intervals, quality, repetition
from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.measure import Measure
from semdlm_jax.evaluation.samples import BIGRAM_TOKENS, COPY_TOKENS, HELDOUT
from semdlm_jax.options import number
from semdlm_jax.plugins import field


@dataclasses.dataclass(frozen=True)
class Entropy(Measure):
    """The mean entropy of a sequence's own token counts, in nats. Comparable under one tokenizer and length only."""

    title: ClassVar[str] = "entropy of a sequence (nats)"

    def of(self, samples):
        values = {column: quality.unigram_entropy(rows) for column, rows in samples.rows.items()}
        return {column: intervals.mean(each, seed=samples.seed) for column, each in values.items()}


@dataclasses.dataclass(frozen=True)
class BasinIndex(Measure):
    """The mean similarity of two tokens of a sequence, over that of held-out text."""

    title: ClassVar[str] = "basin index (1 = like held-out)"
    reads: ClassVar[tuple[str, ...]] = ("neighbors",)
    meaning: ClassVar[str] = (
        "basin index: how often tokens of like meaning meet in a sequence, over that of held-out text; above 1, too "
        "often"
    )

    def of(self, samples):
        table = samples.table
        affinity = {
            column: quality.neighbor_affinity(rows, table.ids, table.similarities)
            for column, rows in samples.rows.items()
        }
        held_out = affinity.pop(HELDOUT)
        whole = intervals.ratio_of_means
        found = {column: whole(values, held_out, seed=samples.seed) for column, values in affinity.items()}
        return {**found, HELDOUT: Interval(quality.ratio(held_out.mean(), held_out.mean()), None, None)}


@dataclasses.dataclass(frozen=True)
class BigramsInTrain(Measure):
    """The share of word bigrams that occur in the training text."""

    title: ClassVar[str] = f"word bigrams that occur in train (its first {BIGRAM_TOKENS // 10**6}M tokens)"
    reads: ClassVar[tuple[str, ...]] = ("train",)

    def of(self, samples):
        found = {}
        for column, texts in samples.texts.items():
            pairs = [quality.word_bigrams(text) for text in texts]
            known = [sum(pair in samples.train_bigrams for pair in each) for each in pairs]
            found[column] = intervals.ratio(np.array(known), np.array([len(each) for each in pairs]), seed=samples.seed)
        return found


@dataclasses.dataclass(frozen=True)
class Distinct(Measure):
    """Distinct n-grams of tokens over all n-grams, of equally many rows: with more rows, fewer n-grams are new."""

    n: int = field(number(2, "[1, 64]", "tokens of an n-gram"))

    title: ClassVar[str] = "distinct token bigrams"
    meaning: ClassVar[str] = (
        "distinct: different pairs of neighboring tokens over all pairs; below held-out, a text repeats itself"
    )

    def of(self, samples):
        return {column: quality.distinct(rows[: samples.compared], self.n) for column, rows in samples.rows.items()}


@dataclasses.dataclass(frozen=True)
class Repetition(Measure):
    """Rep-n: the share of a sequence's n-grams that it has said before."""

    n: int = field(number(4, "[1, 64]", "tokens of an n-gram"))

    title: ClassVar[str] = "Rep-4, n-grams said before in a sequence"

    def of(self, samples):
        return {
            column: intervals.mean(repetition.repetition(rows, self.n), seed=samples.seed)
            for column, rows in samples.rows.items()
        }


@dataclasses.dataclass(frozen=True)
class SelfBleu(Measure):
    """BLEU-4 of each text against all others of its column, in words."""

    title: ClassVar[str] = "self-BLEU"
    meaning: ClassVar[str] = "self-BLEU: how alike the texts of a column are; above held-out, they resemble one another"

    def check(self, count):
        extras.require("sacrebleu", use="self-BLEU")

    def of(self, samples):
        found = {}
        for column, texts in samples.texts.items():
            rows = [quality.words(text) for text in texts[: samples.compared]]
            found[column] = intervals.mean(repetition.self_bleu(rows, seed=samples.seed), seed=samples.seed)
        return found


@dataclasses.dataclass(frozen=True)
class Novelty(Measure):
    """The share of token n-grams that the training text does not have."""

    n: int = field(number(4, "[1, 64]", "tokens of an n-gram"))

    title: ClassVar[str] = f"novel token 4-grams (train: its first {COPY_TOKENS // 10**6}M tokens)"
    reads: ClassVar[tuple[str, ...]] = ("train",)
    meaning: ClassVar[str] = "novel: n-grams that train does not have; far below held-out, they are copied"

    def of(self, samples):
        return {
            column: intervals.ratio(*repetition.novel(copies, self.n), seed=samples.seed)
            for column, copies in samples.copies.items()
        }


@dataclasses.dataclass(frozen=True)
class LongestCopy(Measure):
    """The most tokens in a row that a text copies from the training text."""

    title: ClassVar[str] = f"longest copy (tokens; train: its first {COPY_TOKENS // 10**6}M)"
    reads: ClassVar[tuple[str, ...]] = ("train",)

    def of(self, samples):
        return {
            column: intervals.mean(repetition.longest(copies), seed=samples.seed)
            for column, copies in samples.copies.items()
        }
