"""Measures what a step of a sampler costs on this machine, relative to one forward pass of the network.

    python -m benchmarks.sampling                       8x128 and 64x128 on a CPU; 8x1024 and 64x1024 too elsewhere
    python -m benchmarks.sampling --sizes=8x1024 --variants=ancestral,blockwise --repeats=2
    python -m benchmarks.sampling --output=FILE.md      the same tables into a file as well

Every sampler evaluates the network at every step; posterior, penalty, draw and step are the cost of the sampler itself.
It prints, for B sequences of L tokens (`--sizes=BxL`), the LM1B vocabulary and width, and --layers layers (with fewer
layers the forward pass is cheaper, and the ratios are larger), for every kernel and variant of a sampler:
  ms          of one step: the time of `Sampler.sample` with a plan of STEPS steps, divided by STEPS; median (minimum to
              maximum). It includes drawing from the prior. The program is compiled as for generation: with forbidden
              ids and a prompt
  forward     the ratio to the forward pass. This is a program that returns features and logits [B, L, V] float32 and
              does nothing else, so that it contains no reduction and the compiler cannot leave out the projection. The
              functions run one after the other; before each of them STEPS forward passes are timed, to which its ratio
              refers. `features` is the part of the forward pass before the projection to the vocabulary
  arrays      the memory that the compiled program allocates, without its arguments but with its output, in units of one
              array [B, L, V] float32. It includes the activations of the network; the aim refers to the nearest
              whole number of arrays
  traces      how often the sampler was traced, although every turn had another prompt, seed and temperature
  tokens/s    tokens of text per second, at the default number of steps
A corrector evaluates the network a second time, so its ratio is at least 2. Neighbor tables are random. A few hubs have
the in-degree --in_degree, all other tokens about K. The posterior reads as many entries per position as the largest
in-degree; the default is the maximum that the configurations allow.

At the end it prints whether the variants that have an aim meet it. On a CPU, first `source launch/setup.sh`: without
its memory settings, the forward pass spends time on requesting memory pages for its output. If others use the machine,
`taskset -c 0` and --clock=cpu measure the work of one core only.
"""

import dataclasses
import functools
import itertools
import re
import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.kernels import balanced_table, format_table
from benchmarks.timing import CLOCKS, interleave, machine, reporter, spread
from semdlm_jax import cli
from semdlm_jax.errors import UserError, choose
from semdlm_jax.experiment.build import build_network
from semdlm_jax.kernels import NeighborTable, Vocabulary, make_kernel
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Posterior
from semdlm_jax.samplers import Sampler, make_controls, make_method, make_plan
from semdlm_jax.samplers.presets import make_settings

VOCAB, NEIGHBORS = 30522, 32
MASK = VOCAB - 1
STEPS = 2  # of a measured plan
T_MIN = 1e-3
HUBS = 16

_PENALTY = {"lambda_freq": 0.5, "lambda_sem": 0.5}
VARIANTS = {
    "ancestral": {"sampler": "ancestral"},
    "ancestral+penalty": {"sampler": "ancestral", **_PENALTY},
    "ancestral+window": {"sampler": "ancestral", **_PENALTY, "window": 64},
    "ancestral+corrector": {"sampler": "ancestral", "corrector_steps": 1},
    "blockwise": {"sampler": "blockwise"},
    "blockwise+top_p": {"sampler": "blockwise", "top_p": 0.9},
    "tau_leaping": {"sampler": "tau_leaping"},
    "remdm_cap": {"sampler": "remdm_cap"},
}
KERNELS = ("semdlm_plus", "absorbing")
ONLY_MASKED = ("remdm_cap",)

# The share of a forward to stay at or under, and arrays [B, L, V].
AIMS = {"ancestral": 1.10, "ancestral+penalty": 1.20, "blockwise": 1.15}
MOST_ARRAYS = 2


def hubbed_table(largest):
    """A random neighbor table: HUBS tokens are neighbors of `largest` others, the rest of about NEIGHBORS."""
    table = balanced_table(VOCAB, NEIGHBORS)
    if largest <= NEIGHBORS:
        return table
    ids, generator = np.array(table.ids), np.random.default_rng(1)
    # A row of its own for every new entry: no row lists a hub twice, or itself.
    rows = iter(generator.permutation(np.arange(HUBS, VOCAB))[: HUBS * (largest - NEIGHBORS)])
    for hub, row in zip(itertools.cycle(range(HUBS)), rows):
        if hub not in ids[row]:
            ids[row, -1] = hub
    return NeighborTable.from_lists(ids, np.ones(ids.shape, np.float32))


def make_sampler(denoiser, kernel, settings):
    """(jitted (params, key, given, is_given, plan, controls) -> text [B, L], a list that grows by one a trace)."""
    method = make_method(settings.sampler, **settings.options)
    sampler = Sampler(method, kernel, Posterior(), settings.corrector_steps, settings.corrector_strength)
    traces = []

    def write(params, key, given, is_given, plan, controls):
        traces.append(settings.sampler)
        network = build_network(denoiser, params)
        # Recorded, every step is a full one: what coins first save depends on the step (benchmarks.coins).
        return sampler.sample(key, network, given, is_given, plan, controls, recorded=1)[0]

    return jax.jit(write), traces


def make_arguments(kernel, table, settings, batch, length):
    """A function of a turn's number to the arguments of `make_sampler`'s, the parameters left out."""
    method = make_method(settings.sampler, **settings.options)
    plan = make_plan(kernel, STEPS, 1, length, T_MIN, between=method.between(kernel))
    names = "top_k top_p lambda_freq lambda_sem window".split()
    options = {name: getattr(settings, name) for name in names}
    controls = make_controls(table, forbidden_V=np.arange(VOCAB) == MASK, **options)

    def arguments(turn):
        given = np.random.default_rng(turn).integers(0, MASK, (batch, length), np.int32)
        is_given = np.broadcast_to(np.arange(length) < turn % (length // 2), given.shape)
        warmth = dataclasses.replace(controls, temperature=jnp.float32(1 - 0.05 * (turn % 10)))
        return jax.random.key(turn), given, is_given, plan, warmth

    return arguments


def allocated(jitted, *arguments):
    """Bytes that the compiled program allocates, its arguments left out."""
    memory = jitted.lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


class Cost(NamedTuple):
    """Of one program at one size. seconds: of a step in every turn. ratios: these over the forward's. arrays: what it
    allocates, in [B, L, V] float32. traces: how often its sampler was traced; None of what is no sampler."""

    seconds: list[float]
    ratios: list[float]
    arrays: float
    traces: int | None


def measure(denoiser, params, table, kernels, variants, batch, length, repeats, clock):
    """{name: Cost} of the network and of every variant with every kernel."""
    tokens = jax.random.randint(jax.random.key(0), (batch, length), 0, MASK)
    networks = {"forward": jax.jit(denoiser.apply), "features": jax.jit(denoiser.features)}
    of_network = (params, tokens, jnp.full(batch, 0.5))

    def repeat(network):
        for _ in range(STEPS):
            network(*of_network).block_until_ready()

    def runner(jitted, arguments):
        turns = itertools.count()
        return lambda: jitted(params, *arguments(next(turns))).block_until_ready()

    functions = {name: functools.partial(repeat, network) for name, network in networks.items()}
    sizes, traces = {name: allocated(network, *of_network) for name, network in networks.items()}, {}
    for name in kernels:
        vocabulary = Vocabulary(VOCAB, MASK, table=table, unigram=np.ones(VOCAB))
        kernel = make_kernel(name, vocabulary)
        for variant in variants:
            if variant in ONLY_MASKED and name != "absorbing":
                continue
            settings, label = make_settings(**VARIANTS[variant]), f"{name} {variant}"
            jitted, traces[label] = make_sampler(denoiser, kernel, settings)
            arguments = make_arguments(kernel, table, settings, batch, length)
            sizes[label] = allocated(jitted, params, *arguments(0))
            functions[label] = runner(jitted, arguments)
    # A forward right before each: what slows the machine down for a while slows both.
    pairs = {}
    for name, function in functions.items():
        pairs |= {("forward", name): functions["forward"], ("itself", name): function}
    spent = interleave(pairs, repeats, clock)

    def cost(name):
        seconds, forward = spent["itself", name], spent["forward", name]
        return Cost(
            [value / STEPS for value in seconds],
            [value / unit for value, unit in zip(seconds, forward)],
            sizes[name] / (4 * batch * length * VOCAB),
            len(traces[name]) if name in traces else None,
        )

    return {name: cost(name) for name in functions}


def format_size(batch, length, costs):
    rows = []
    for name, cost in costs.items():
        times = spread([value * 1e3 for value in cost.seconds], "{:,.1f}")
        row = [name, times, spread(cost.ratios, "{:.3f}"), f"{cost.arrays:.2f}", "", ""]
        if cost.traces is not None:
            speed = batch * length / statistics.median(cost.seconds) / make_settings().steps
            row[4:] = [str(cost.traces), f"{speed:,.1f}"]
        rows.append(row)
    return format_table(["", "ms", "forward", "arrays", "traces", f"tokens/s, {make_settings().steps} steps"], rows)


def format_aims(results):
    rows = []
    for (batch, length), costs in results.items():
        for name, cost in costs.items():
            if (aim := AIMS.get(name.split(" ")[-1])) is None:
                continue
            ratio, arrays = statistics.median(cost.ratios), round(cost.arrays)
            met = ratio <= aim and arrays <= MOST_ARRAYS
            rows.append([f"{batch}x{length}", name, f"{ratio:.3f}", f"{aim:.2f}", str(arrays), str(met)])
    if not rows:
        return []
    table = format_table(["", "variant", "forward", "at most", f"arrays, at most {MOST_ARRAYS}", "met"], rows)
    return ["", "## Aims", *table]


def read_sizes(texts):
    """[(B, L)] of BxL. UserError for anything else."""
    found = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text) for text in texts]
    if not texts or not all(found) or any(int(match[2]) < 2 for match in found):
        raise UserError(f"--sizes={','.join(texts)}: give BxL with commas between, L at least 2, e.g. 8x128,64x128")
    return [(int(match[1]), int(match[2])) for match in found]


def main():
    default = ["8x128", "64x128"] if jax.default_backend() == "cpu" else ["8x128", "64x128", "8x1024", "64x1024"]
    sizes = read_sizes(default if SIZES.value is None else SIZES.value)
    for name in VARIANT.value:
        choose("--variants", name, VARIANTS)
    for name in KERNEL.value:
        choose("--kernels", name, dict.fromkeys(KERNELS))
    cli.check_output(OUTPUT.value)
    report, results = reporter(OUTPUT.value), {}

    denoiser = Denoiser(VOCAB, layers=LAYERS.value, dtype=DTYPE.value)
    table = hubbed_table(IN_DEGREE.value)
    network = f"{denoiser.layers} layers of width {denoiser.width}, {denoiser.dtype}"
    table_is = f"V = {VOCAB}, K = {NEIGHBORS}, in-degree at most {table.in_ids.shape[1]}"
    turns = f"{REPEATS.value} turns of {STEPS} steps, {CLOCK.value} time"
    report("# Cost of a sampling step", "", f"{machine()}; {network}; {table_is}; {turns}")
    params = jax.jit(denoiser.init)(jax.random.key(0))
    # Nothing is zero, as much is at first: the draws have something to choose from.
    shapes, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(shapes))
    params = structure.unflatten([x + 0.02 * jax.random.normal(key, x.shape) for x, key in zip(shapes, keys)])
    for batch, length in sizes:
        asked = KERNEL.value, VARIANT.value, batch, length, REPEATS.value, CLOCK.value
        results[batch, length] = costs = measure(denoiser, params, table, *asked)
        report("", f"## {batch} sequences of {length} tokens", *format_size(batch, length, costs))
    if summary := format_aims(results):
        report(*summary)


if __name__ == "__main__":
    SIZES = flags.DEFINE_list(
        "sizes", None, "BxL, e.g. 8x128,64x128 (the default on a CPU); 64x1024 takes minutes there"
    )
    VARIANT = flags.DEFINE_list("variants", list(VARIANTS), "names of VARIANTS")
    KERNEL = flags.DEFINE_list("kernels", list(KERNELS), "names of KERNELS")
    REPEATS = flags.DEFINE_integer("repeats", 5, "turns; each takes every measurement once", lower_bound=1)
    LAYERS = flags.DEFINE_integer("layers", 4, "layers of the network; LM1B's has 12", lower_bound=1)
    DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "of the network's matrix products")
    IN_DEGREE = flags.DEFINE_integer("in_degree", 128, "of the hubs of the neighbor table", 1, 1000)
    CLOCK = flags.DEFINE_enum("clock", "wall", CLOCKS, "wall time, or processor time of one pinned core")
    OUTPUT = flags.DEFINE_string("output", None, "a file for the tables, as Markdown")
    cli.run(main)
