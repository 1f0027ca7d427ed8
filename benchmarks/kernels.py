"""Measures what a kernel costs on this machine, relative to one forward pass of the network, as V, K and L grow.

    python -m benchmarks.kernels                        all sizes; the largest takes 20 s a turn on two CPU cores
    python -m benchmarks.kernels --vocab=30522 --neighbors=32 --length=128
    python -m benchmarks.kernels --output=FILE.md       the same tables into a file as well

It prints, for a vocabulary of V tokens, K neighbors per token and sequences of length L:
  forward             a network of the LM1B width with 4 layers, including its logits [B, L, V]: all ratios refer to it
  corrupt, log_prob   x_t ~ q_t(. | x0), and log q_t(x_t | x0)
  softmax             log p(x0 | x_t) of every token: plain, and by Bayes' rule; the correction is the cost of the rule
  cross-entropy       the same for the clean token alone, without forming an array [B, L, V]
  integrand           `bound.nelbo_rate`, and its estimate from SAMPLES tokens per position
with the median of milliseconds (minimum to maximum), the ratio to the forward pass, and MiB: the memory that the
compiled program allocates, without its arguments. All functions of one size run one after the other, once in every
turn; ratios and differences are computed within a turn.

Everything of size [B, L, V] is computed for `--chunk` positions at a time, as in evaluation. All chunks read the same
random array [B, chunk, V] and add a different number to it, so that no result can be shared between chunks; a result
[.., V] is reduced by its maximum. Neighbor tables are random, and every token is a neighbor of exactly K others. Tables
of real text have hubs. Their largest in-degree is larger than K, and the correction and the integrand read that many
entries per position. At the end it prints how times grow with V and K, and whether the reference size meets its aims.
"""

import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from benchmarks.timing import interleave, machine, reporter, spread
from semdlm_jax import cli
from semdlm_jax.errors import UserError
from semdlm_jax.kernels import NeighborTable, Vocabulary, make_kernel
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import bound, make_posterior, sampled
from semdlm_jax.options import counted

SAMPLES = 8
BAYES = make_posterior("bayes")

# The measured functions, grouped by what they read besides tokens and times: nothing, logits f, log-probabilities p.
OF_TOKENS = {
    "corrupt": lambda kernel, x0, xt, t, key: kernel.corrupt(key, x0, t),
    "log_prob": lambda kernel, x0, xt, t, key: kernel.log_prob(xt, x0, t),
}
OF_LOGITS = {
    "softmax, plain": lambda kernel, f, x0, xt, t, key: jnp.max(jax.nn.log_softmax(f), axis=-1),
    "softmax, bayes": lambda kernel, f, x0, xt, t, key: jnp.max(BAYES.log_probs(kernel, f, xt, t), axis=-1),
    "cross-entropy, plain": lambda kernel, f, x0, xt, t, key: optax.softmax_cross_entropy_with_integer_labels(f, x0),
    "cross-entropy, bayes": lambda kernel, f, x0, xt, t, key: BAYES.cross_entropy(kernel, f, x0, xt, t),
}
OF_LOG_PROBS = {
    "integrand": lambda kernel, p, x0, xt, t, key: bound.nelbo_rate(kernel, p, x0, xt, t),
    "integrand, sampled": lambda kernel, p, x0, xt, t, key: sampled.nelbo_rate(kernel, p, x0, xt, t, key, SAMPLES),
}
CALLS = 20  # of OF_TOKENS in one measurement: one is too short to time

# name of a difference -> (what it is taken from, what is taken off).
DIFFERENCES = {
    "correction": ("softmax, bayes", "softmax, plain"),
    "correction of one": ("cross-entropy, bayes", "cross-entropy, plain"),
}

# V, K and L of the aims, and through which the growth is drawn; the share of a forward to stay under.
REFERENCE = (30522, 32, 128)
AIMS = {"corrupt": 0.02, "correction": 0.10, "integrand": 2.0}


def balanced_table(vocab_size, k_max, seed=0):
    """A random neighbor table in which every token is a neighbor of exactly K others."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(vocab_size)
    # The tokens form a ring in random order; neighbor r of a token is the one that follows it at a random distance.
    shifts = 1 + generator.choice(vocab_size - 1, k_max, replace=False)
    ids = np.empty((vocab_size, k_max), np.int32)
    ids[order] = order[(np.arange(vocab_size)[:, None] + shifts) % vocab_size]
    return NeighborTable.from_lists(ids, np.ones(ids.shape, np.float32))


def by_chunks(function, chunk, *per_position):
    """[B, L] of function(index, *chunks [B, chunk, ...]) -> [B, chunk], of arrays [B, L, ...]."""
    batch, length = per_position[0].shape[:2]

    def split(x):
        return jnp.moveaxis(x.reshape(batch, length // chunk, chunk, *x.shape[2:]), 1, 0)

    parts = (jnp.arange(length // chunk), *(split(x) for x in per_position))
    out = jax.lax.map(lambda part: function(*part), parts)
    return jnp.moveaxis(out, 0, 1).reshape(batch, length)


def over_vocabulary(function, chunk):
    """One of OF_LOGITS or OF_LOG_PROBS as a function of (kernel, values [B, chunk, V], x0 [B, L], xt, t, key)."""

    def whole(kernel, values, x0_BxL, xt_BxL, t, key):
        def one(index, x0, xt):
            return function(kernel, values + 1e-6 * index, x0, xt, t, jax.random.fold_in(key, index))

        return by_chunks(one, chunk, x0_BxL, xt_BxL)

    return whole


def forward(denoiser, chunk):
    """(params, tokens [B, L], t [B]) -> [B, L], the largest logit."""

    def whole(params, tokens_BxL, t_B):
        def one(index, features):
            del index
            return jnp.max(denoiser.logits(params, features), axis=-1)

        return by_chunks(one, chunk, denoiser.features(params, tokens_BxL, t_B))

    return whole


def compile_all(denoiser, params, kernel, batch, length, chunk):
    """{name: (compiled program, its arguments)} of all functions that are measured at one size."""
    chunk = math.gcd(chunk, length)
    x0_key, t_key, noise_key, logit_key, key = jax.random.split(jax.random.key(0), 5)
    # The last token is the mask.
    x0 = jax.random.randint(x0_key, (batch, length), 0, kernel.vocab_size - 1)
    t = jax.random.uniform(t_key, (batch, 1), minval=0.2, maxval=0.8)
    xt = jax.jit(kernel.corrupt)(noise_key, x0, t)
    logits = jax.random.normal(logit_key, (batch, chunk, kernel.vocab_size))
    calls = {"forward": (forward(denoiser, chunk), (params, xt, t[:, 0]))}
    calls |= {name: (function, (kernel, x0, xt, t, key)) for name, function in OF_TOKENS.items()}
    for functions, values in ((OF_LOGITS, logits), (OF_LOG_PROBS, jax.nn.log_softmax(logits))):
        arguments = (kernel, values, x0, xt, t, key)
        calls |= {name: (over_vocabulary(function, chunk), arguments) for name, function in functions.items()}
    return {name: (jax.jit(call).lower(*arguments).compile(), arguments) for name, (call, arguments) in calls.items()}


def measure(programs, repeats):
    """({name: [seconds] of every turn}, {name: bytes}) of compiled programs; differences have seconds only."""
    calls = {name: CALLS if name in OF_TOKENS else 1 for name in programs}

    def runner(name, program, arguments):
        return lambda: jax.block_until_ready([program(*arguments) for _ in range(calls[name])])

    spent = interleave({name: runner(name, *called) for name, called in programs.items()}, repeats)
    seconds = {name: [value / calls[name] for value in values] for name, values in spent.items()}
    for name, (whole, part) in DIFFERENCES.items():
        seconds[name] = [a - b for a, b in zip(seconds[whole], seconds[part])]
    memory = {name: program.memory_analysis() for name, (program, _) in programs.items()}
    return seconds, {name: each.temp_size_in_bytes + each.output_size_in_bytes for name, each in memory.items()}


def ratios(seconds, name):
    return [value / unit for value, unit in zip(seconds[name], seconds["forward"])]


def format_table(head, rows):
    """An empty line, then lines of Markdown with aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in (head, *rows)]
    return ["", *("| " + " | ".join(line) + " |" for line in (lines[0], ["-" * width for width in widths], *lines[1:]))]


def format_size(seconds, sizes):
    rows = []
    for name, values in seconds.items():
        milliseconds = spread([value * 1e3 for value in values], "{:,.3f}")
        memory = f"{sizes[name] / 2**20:,.1f}" if name in sizes else ""
        rows.append([name, milliseconds, spread(ratios(seconds, name), "{:.3g}"), memory])
    return format_table(["", "ms", "of a forward", "MiB"], rows)


def format_growth(results, axis):
    """Median times against V or K (axis 0 or 1 of a size), while the other one is at REFERENCE.

    A table for every L with at least two measured sizes, with the slope of log time against log size.
    """
    lines, other = [], 1 - axis
    for length in sorted({size[2] for size in results}):
        sizes = sorted(size for size in results if size[other] == REFERENCE[other] and size[2] == length)
        if len(sizes) < 2:
            continue
        rows = []
        for name in results[sizes[0]]:
            times = [statistics.median(results[size][name]) * 1e3 for size in sizes]
            # A difference of noisy times may be negative: it has no slope.
            fits = min(times) > 0
            slope = np.polyfit(np.log([size[axis] for size in sizes]), np.log(times), 1)[0] if fits else math.nan
            rows.append([name, *(f"{time:,.3f}" for time in times), f"{slope:.2f}"])
        head = [f"ms, {'VK'[other]} = {REFERENCE[other]}, L = {length}", *(f"{'VK'[axis]} = {s[axis]}" for s in sizes)]
        lines += format_table([*head, "slope"], rows)
    return lines


def format_aims(results):
    if REFERENCE not in results:
        return []
    shares = {name: statistics.median(ratios(results[REFERENCE], name)) for name in AIMS}
    rows = [[name, f"{shares[name]:.3g}", f"{most:g}", str(shares[name] < most)] for name, most in AIMS.items()]
    return format_table(["V = {}, K = {}, L = {}".format(*REFERENCE), "of a forward", "under", "met"], rows)


def integers(flag, least):
    """The numbers of a list flag, sorted. UserError for a text that is not a number, or a number that is too small."""
    if not flag.value or not all(text.isdecimal() and int(text) >= least for text in flag.value):
        raise UserError(f"--{flag.name}={','.join(flag.value)}: give whole numbers from {least}, with commas between")
    return sorted({int(text) for text in flag.value})


def main():
    vocab_sizes, neighbors, lengths = integers(VOCAB, 2), integers(NEIGHBORS, 1), integers(LENGTH, 1)
    if neighbors[-1] >= vocab_sizes[0]:
        raise UserError(f"{vocab_sizes[0]} tokens cannot have {neighbors[-1]} neighbors each: lower --neighbors")
    cli.check_output(OUTPUT.value)
    report, results = reporter(OUTPUT.value), {}

    work = f"{BATCH.value} x L tokens, {CHUNK.value} positions at a time, float32, {counted(REPEATS.value, 'round')}"
    report(f"# Cost of the kernel {KERNEL.value}", "", f"{machine()}; {work}")
    for vocab_size in vocab_sizes:
        denoiser = Denoiser(vocab_size, layers=4)
        params = jax.jit(denoiser.init)(jax.random.key(0))
        for k_max in neighbors:
            table = balanced_table(vocab_size, k_max)
            blocks = np.arange(vocab_size)[None] % 65  # 64 and one of special tokens
            ones = np.ones(vocab_size)
            vocabulary = Vocabulary(vocab_size, vocab_size - 1, table=table, unigram=ones, partitions=blocks)
            kernel = make_kernel(KERNEL.value, vocabulary)
            for length in lengths:
                programs = compile_all(denoiser, params, kernel, BATCH.value, length, CHUNK.value)
                seconds, sizes = measure(programs, REPEATS.value)
                results[vocab_size, k_max, length] = seconds
                report("", f"## V = {vocab_size}, K = {k_max}, L = {length}", *format_size(seconds, sizes))
    summary = [*format_growth(results, 0), *format_growth(results, 1), *format_aims(results)]
    if summary:
        report("", "## Growth and aims", *summary)


if __name__ == "__main__":
    VOCAB = flags.DEFINE_list("vocab", ["4096", "30522", "131072"], "sizes of the vocabulary, V")
    NEIGHBORS = flags.DEFINE_list("neighbors", ["8", "32", "128"], "neighbors a token, K")
    LENGTH = flags.DEFINE_list("length", ["128", "1024"], "positions a sequence, L")
    BATCH = flags.DEFINE_integer("batch", 1, "sequences, B", lower_bound=1)
    CHUNK = flags.DEFINE_integer(
        "chunk", 32, "positions of [B, L, V] at a time, lowered to a divisor of L", lower_bound=1
    )
    REPEATS = flags.DEFINE_integer("repeats", 5, "turns; each takes every measurement once", lower_bound=1)
    KERNEL = flags.DEFINE_string("kernel", "semdlm_plus", "a name of kernels.KERNELS that needs no embeddings")
    OUTPUT = flags.DEFINE_string("output", None, "a file for the tables, as Markdown")
    cli.run(main)
