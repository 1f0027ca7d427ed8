"""Measures what sampling gains when coins fall before the network is asked, beside full steps of the same sampler.

    python -m benchmarks.coins                              mdlm, udlm, semdlm_nested and semdlm_plus, 8x128
    python -m benchmarks.coins --systems=mdlm --total=1024 --repeats=3 --output=FILE.md

A full step computes logits, and draws, at all positions. A run of --total steps is represented by --parts of them, the
middle one of every part of equal length, and by the last step, which writes the text. Each starts from tokens of its
time: random text, corrupted by the kernel. Full steps are those of a sampler that records a trajectory, of one row. A
turn takes, for every system, all full steps and then all with coins first, each right after a forward pass (features
and logits [B, L, V]). It prints, as median (minimum to maximum) over the turns:
  forwards      of a step of the run on average, in forward passes
  full / coins  the time of the full steps over that with coins first, in the same turn
  logits        the share of positions at which logits are computed when coins fall first, in whole chunks
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.kernels import balanced_table, format_table
from benchmarks.timing import CLOCKS, interleave, machine, reporter, spread
from semdlm_jax import cli
from semdlm_jax.errors import choose
from semdlm_jax.experiment.build import build_network
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.kernels.schedules import LogLinear
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Posterior
from semdlm_jax.samplers import Plan, Sampler, make_controls, make_method, make_plan
from semdlm_jax.samplers.methods import StepContext
from semdlm_jax.samplers.proposing import CHOSEN_SHARE

VOCAB, NEIGHBORS, BLOCKS = 30522, 32, 64
MASK = VOCAB - 1
SYSTEMS = {
    "mdlm": ("absorbing", {"schedule": LogLinear()}),
    "udlm": ("uniform", {}),
    "semdlm_nested": ("nested", {"blocks": str(BLOCKS)}),
    "semdlm_plus": ("semdlm_plus", {}),
}


def vocabulary():
    """Random neighbors, random blocks of equal sizes and one of the mask."""
    blocks = np.random.default_rng(0).permutation(VOCAB) % BLOCKS
    blocks[MASK] = BLOCKS
    return Vocabulary(VOCAB, MASK, balanced_table(VOCAB, NEIGHBORS), np.ones(VOCAB), partitions=blocks[None])


def chosen_steps(kernel, total, parts, length):
    """([Plan of one step], [its weight in a run of `total` steps])."""
    plan = make_plan(kernel, total, 1, length, 1e-3)
    middles = [(2 * part + 1) * (total - 1) // (2 * parts) for part in range(parts)]
    plans = [Plan(*(column[i : i + 1] for column in plan)) for i in [*middles, total - 1]]
    return plans, [(total - 1) / parts / total] * parts + [1 / total]


def make_step(denoiser, kernel, method, recorded):
    """A jitted (params, key, noisy, plan, controls) -> text."""
    sampler = Sampler(make_method(method), kernel, Posterior())

    def step(params, key, noisy, plan, controls):
        free = jnp.zeros(noisy.shape, bool)
        network = build_network(denoiser, params)
        return sampler.sample(key, network, noisy, free, plan, controls, recorded, initial_BxL=noisy)[0]

    return jax.jit(step)


def share_of_logits(kernel, method, noisy, plan):
    """The share of positions at which coins fall, in chunks as the sampler takes them, of one step."""
    t, s = plan.t[0], plan.s[0]
    context = StepContext(t, s if s else t / 2, jnp.zeros(()), jnp.ones(noisy.shape, bool))
    chosen = make_method(method).chosen(kernel, jax.random.key(1), noisy, context, None)
    chosen = np.asarray(chosen if s else ~kernel.certain(noisy))
    size = max(noisy.shape[1] // CHOSEN_SHARE, 1)
    return -(-chosen.sum(1).max() // size) * size / noisy.shape[1]


def measure(denoiser, params, systems, method, total, parts, shape, repeats, clock):
    """{system: ([forwards of a full step in every turn], [the same with coins first], [ratios of their times], share of
    logits)}."""
    controls = make_controls(None, forbidden_V=np.arange(VOCAB) == MASK)
    text = jax.random.randint(jax.random.key(2), shape, 0, MASK)
    forward, at_half = jax.jit(denoiser.apply), jnp.full(shape[0], 0.5)
    functions, weights, shares = {}, {}, {}
    for name in systems:
        kernel_name, options = SYSTEMS[name]
        kernel = make_kernel(kernel_name, vocabulary(), **options)
        plans, weights[name] = chosen_steps(kernel, total, parts, shape[1])
        noisy = [kernel.corrupt(jax.random.key(3), text, float(plan.t[0])) for plan in plans]
        each = [share_of_logits(kernel, method, x, plan) for x, plan in zip(noisy, plans)]
        shares[name] = np.dot(weights[name], each)
        for kind, recorded in (("full", 1), ("coins", 0)):
            step = make_step(denoiser, kernel, method, recorded)
            for index, (x, plan) in enumerate(zip(noisy, plans)):
                arguments = params, jax.random.key(index), x, plan, controls
                # A forward right before each: what slows the machine down for a while slows both.
                functions[name, kind, "forward", index] = functools.partial(finish, forward, (params, text, at_half))
                functions[name, kind, "itself", index] = lambda step=step, given=arguments: step(
                    *given
                ).block_until_ready()
    spent = interleave(functions, repeats, clock)

    def of(name, kind, what):
        return np.array([spent[name, kind, what, index] for index in range(parts + 1)])

    def costs(name):
        full, coins = (of(name, kind, "itself") for kind in ("full", "coins"))
        units = (of(name, kind, "forward") for kind in ("full", "coins"))
        forwards = (weights[name] @ (times / unit) for times, unit in zip((full, coins), units))
        return *forwards, (weights[name] @ full) / (weights[name] @ coins), shares[name]

    return {name: costs(name) for name in systems}


def finish(function, arguments):
    jax.block_until_ready(function(*arguments))


def format_costs(costs):
    rows = []
    for name, (*measured, share) in costs.items():
        rows.append([name, *(spread(list(x), "{:.2f}") for x in measured), f"{share:.3f}"])
    return format_table(["", "full: forwards", "coins first: forwards", "full / coins", "logits"], rows)


def main():
    for name in SYSTEM.value:
        choose("--systems", name, SYSTEMS)
    cli.check_output(OUTPUT.value)
    report, shape = reporter(OUTPUT.value), (BATCH.value, LENGTH.value)
    denoiser = Denoiser(VOCAB, width=WIDTH.value, layers=LAYERS.value, heads=4)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    network = f"{denoiser.layers} layers of width {denoiser.width}, {denoiser.dtype}"
    steps = f"{METHOD.value}, {TOTAL.value} steps, {PARTS.value} of them and the last one"
    turns = f"{REPEATS.value} turns, {CLOCK.value} time"
    report("# Coins first", "", f"{machine()}; {network}; V = {VOCAB}, {shape[0]} x {shape[1]}; {steps}; {turns}")
    asked = SYSTEM.value, METHOD.value, TOTAL.value, PARTS.value, shape, REPEATS.value, CLOCK.value
    report(*format_costs(measure(denoiser, params, *asked)))


if __name__ == "__main__":
    SYSTEM = flags.DEFINE_list("systems", list(SYSTEMS), "names of SYSTEMS")
    METHOD = flags.DEFINE_enum(
        "sampler", "ancestral", ["ancestral", "tau_leaping", "blockwise"], "the method of a step"
    )
    TOTAL = flags.DEFINE_integer("total", 128, "steps of the run that is represented", lower_bound=2)
    PARTS = flags.DEFINE_integer("parts", 8, "steps that represent it, beside the last one", lower_bound=1)
    BATCH = flags.DEFINE_integer("batch_size", 8, "rows", lower_bound=1)
    LENGTH = flags.DEFINE_integer("length", 128, "positions", lower_bound=1)
    WIDTH = flags.DEFINE_integer("width", 256, "of the network, a multiple of 8", lower_bound=8)
    LAYERS = flags.DEFINE_integer("layers", 4, "of the network", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 5, "turns", lower_bound=1)
    CLOCK = flags.DEFINE_enum("clock", "wall", CLOCKS, "wall time, or processor time of one pinned core")
    OUTPUT = flags.DEFINE_string("output", None, "a file for the table, as Markdown")
    cli.run(main)
