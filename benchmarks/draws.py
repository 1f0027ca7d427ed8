"""Measures what one draw of the likelihood bound costs in `evaluate`, relative to one forward pass of the network.

    python -m benchmarks.draws                                      quickstart's size, 64 sequences of 64 tokens
    python -m benchmarks.draws --vocab=30522 --length=128 --batch=8 --width=768 --layers=4

A draw scores every sequence once (`Objective.score_terms`). The forward pass has the same tokens and ends with the
logits of all positions, of which the largest is kept. One program after the other runs once in every turn, and ratios
are computed within a turn. Neighbor tables and blocks are random. It prints the median of milliseconds (minimum to
maximum), the ratio, the MiB of the compiled program without its arguments, and the aim.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.kernels import balanced_table, format_table, forward
from benchmarks.timing import interleave, machine, reporter, spread
from semdlm_jax import cli
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Scoring, make_objective
from semdlm_jax.options import counted

# The most forwards a draw should take.
AIMS = {"absorbing": 1.3, "uniform": 2.0, "hybrid": 2.0, "nested": 2.0, "semdlm_plus": 4.0}
ENDS = {"t_min": 1e-3, "t_max": 1 - 1e-5}


def main():
    cli.check_output(OUTPUT.value)
    size, batch, length = VOCAB.value, BATCH.value, LENGTH.value
    denoiser = Denoiser(size, width=WIDTH.value, layers=LAYERS.value, heads=HEADS.value)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    blocks = np.arange(size)[None] % 65  # 64 and one of special tokens
    table = balanced_table(size, NEIGHBORS.value)
    vocabulary = Vocabulary(size, size - 1, table=table, unigram=np.ones(size), partitions=blocks)
    key = jax.random.key(1)
    rows = {
        "tokens": jax.random.randint(key, (batch, length), 0, size - 1),  # the last token is the mask
        "mask": jnp.ones((batch, length), bool),
        "row": jnp.arange(batch),
        "uniform": (jnp.arange(batch)[:, None] + 0.5) / batch,
    }
    programs = {"forward": (jax.jit(forward(denoiser, CHUNK.value)), (params, rows["tokens"], rows["uniform"][:, 0]))}
    for name in KERNELS.value:
        objective = make_objective("denoising", make_kernel(name, vocabulary))
        score = jax.jit(objective.score_terms(denoiser, Scoring(**ENDS, chunk=CHUNK.value)))
        programs[name] = (score, (params, key, rows, 0))
    memory = {
        name: program.lower(*arguments).compile().memory_analysis() for name, (program, arguments) in programs.items()
    }
    seconds = interleave(
        {name: lambda call=call: jax.block_until_ready(call[0](*call[1])) for name, call in programs.items()},
        REPEATS.value,
    )
    lines = []
    for name, values in seconds.items():
        ratios = [value / unit for value, unit in zip(values, seconds["forward"], strict=True)]
        mebibytes = (memory[name].temp_size_in_bytes + memory[name].output_size_in_bytes) / 2**20
        milliseconds = spread([value * 1e3 for value in values], "{:,.1f}")
        aim = f"{AIMS[name]:g}" if name in AIMS else ""
        lines.append([name, milliseconds, spread(ratios, "{:.2f}"), f"{mebibytes:,.0f}", aim])
    report = reporter(OUTPUT.value)
    report(
        f"V = {size}, {batch} x {length} tokens, {LAYERS.value} layers of width {WIDTH.value}, float32, "
        f"{CHUNK.value} positions at a time; {machine()}; {counted(REPEATS.value, 'turn')}",
        *format_table(["", "ms", "forwards", "MiB", "at most"], lines),
    )


if __name__ == "__main__":
    VOCAB = flags.DEFINE_integer("vocab", 1024, "tokens of the vocabulary, V", lower_bound=100)
    NEIGHBORS = flags.DEFINE_integer("neighbors", 8, "neighbors a token, K", lower_bound=1)
    LENGTH = flags.DEFINE_integer("length", 64, "positions a sequence, L", lower_bound=1)
    BATCH = flags.DEFINE_integer("batch", 64, "sequences, B", lower_bound=1)
    WIDTH = flags.DEFINE_integer("width", 256, "of the network", lower_bound=8)
    LAYERS = flags.DEFINE_integer("layers", 4, "of the network", lower_bound=1)
    HEADS = flags.DEFINE_integer("heads", 4, "of attention", lower_bound=1)
    CHUNK = flags.DEFINE_integer("chunk", 32, "positions of [B, L, V] at a time; a divisor of L", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 9, "turns; each takes every measurement once", lower_bound=1)
    KERNELS = flags.DEFINE_list("kernels", list(AIMS), "names of kernels")
    OUTPUT = flags.DEFINE_string("output", None, "a file for the table, as Markdown")
    cli.run(main)
