"""Measures what sampling in exact continuous time costs, beside ancestral sampling with several numbers of steps.

    python -m benchmarks.exact                              mdlm, udlm, semdlm_nested and semdlm_plus, 8x128
    python -m benchmarks.exact --systems=mdlm --steps=128,1024 --repeats=3 --clock=cpu --output=FILE.md
    python -m benchmarks.exact --repeats=0                  only how many candidates there are

First it prints the candidates of `exact` for each position from t = 1 to T_MIN: the integral of the largest rate at
which a token leaves, for random text that the kernel has corrupted, by the midpoints of the cells of time.
Whole texts are written, by a network that is not trained; coins fall first in `ancestral`. A turn runs every sampler
once, one after the other. It prints, as median (minimum to maximum) over the turns:
  evaluations   of the network for the whole batch
  s / text      seconds for each text
  / exact       the time of the sampler over that of `exact`, in the same turn
Under masks the number of evaluations does not depend on what the network says. Of `semdlm_plus` `exact` takes hours.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.coins import MASK, SYSTEMS, VOCAB, vocabulary
from benchmarks.kernels import format_table
from benchmarks.timing import CLOCKS, interleave, machine, reporter, spread
from semdlm_jax import cli
from semdlm_jax.errors import UserError, choose
from semdlm_jax.experiment.build import build_network
from semdlm_jax.kernels import make_kernel
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Posterior
from semdlm_jax.objectives.bound import T_NUMERIC_MAX
from semdlm_jax.samplers import Sampler, make_controls, make_method, make_plan
from semdlm_jax.samplers.cells import cell_end, rate_bound

T_MIN = 1e-3
TEXT = 256  # tokens that candidates are counted of
EXACT = "exact"


def make_writer(denoiser, params, kernel, method, steps, shape):
    """A function without arguments that writes a batch of texts, and a list of the evaluations of each."""
    method = make_method(method)
    plan = make_plan(kernel, steps, 1, shape[1], T_MIN, between=method.between(kernel))
    sampler = Sampler(method, kernel, Posterior())
    controls = make_controls(None, forbidden_V=np.arange(VOCAB) == MASK)
    evaluations, turns = [], itertools.count()

    @jax.jit
    def write(params, key, plan, controls):
        given, is_given = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
        text, record = sampler.sample(key, build_network(denoiser, params), given, is_given, plan, controls)
        return text, record.evaluations

    def run():
        text, count = write(params, jax.random.key(next(turns)), plan, controls)
        text.block_until_ready()
        evaluations.append(int(count))

    return run, evaluations


def candidates(kernel):
    """Of `exact`, for each position."""
    text, end_of = jax.random.randint(jax.random.key(0), (TEXT,), 0, MASK), jax.jit(cell_end)

    @jax.jit
    def rate(key, t):
        return jnp.mean(rate_bound(kernel, kernel.corrupt(key, text, t)[None], t[None, None]))

    t, total, kinks = jnp.float32(T_NUMERIC_MAX), 0.0, kernel.kinks()
    for cell in itertools.count():
        if t <= T_MIN:
            return total
        (end,), (sliver,) = end_of(t[None], kinks)
        end = jnp.maximum(end, T_MIN)
        total += 0.0 if sliver else float(rate(jax.random.key(cell), (t + end) / 2) * (t - end))
        t = end


def measure(denoiser, params, kernel, steps, shape, repeats, clock):
    """{sampler: (evaluations in every turn, seconds of every turn)}."""
    samplers = {EXACT: (EXACT, 2), **{f"ancestral, {count:,} steps": ("ancestral", count) for count in steps}}
    made = {label: make_writer(denoiser, params, kernel, *which, shape) for label, which in samplers.items()}
    spent = interleave({label: run for label, (run, _) in made.items()}, repeats, clock)
    return {label: (counts[1:], spent[label]) for label, (_, counts) in made.items()}


def format_costs(costs, batch):
    exact = costs[EXACT][1]
    rows = [
        [
            label,
            spread(counts, "{:,.0f}"),
            spread([value / batch for value in seconds], "{:.3f}"),
            spread([value / unit for value, unit in zip(seconds, exact)], "{:.2f}"),
        ]
        for label, (counts, seconds) in costs.items()
    ]
    return format_table(["", "evaluations", "s / text", "/ exact"], rows)


def read_steps(texts):
    """Numbers of steps, at least 2. UserError for anything else."""
    if not texts or not all(text.isdecimal() and int(text) > 1 for text in texts):
        raise UserError(f"--steps={','.join(texts)}: give whole numbers from 2 on with commas between, e.g. 128,1024")
    return [int(text) for text in texts]


def main():
    for name in SYSTEM.value:
        choose("--systems", name, SYSTEMS)
    steps, shape = read_steps(STEPS.value), (BATCH.value, LENGTH.value)
    cli.check_output(OUTPUT.value)
    report = reporter(OUTPUT.value)
    denoiser = Denoiser(VOCAB, width=WIDTH.value, layers=LAYERS.value, heads=4)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    network = f"{denoiser.layers} layers of width {denoiser.width}, {denoiser.dtype}"
    turns = f"{REPEATS.value} turns, {CLOCK.value} time"
    report("# Exact continuous time", "", f"{machine()}; {network}; V = {VOCAB}, {shape[0]} x {shape[1]}; {turns}")
    for system in SYSTEM.value:
        name, options = SYSTEMS[system]
        kernel = make_kernel(name, vocabulary(), **options)
        report("", f"## {system}", "", f"{candidates(kernel):.1f} candidates for each position")
        if REPEATS.value:
            costs = measure(denoiser, params, kernel, steps, shape, REPEATS.value, CLOCK.value)
            report(*format_costs(costs, shape[0]))


if __name__ == "__main__":
    SYSTEM = flags.DEFINE_list("systems", list(SYSTEMS), "names of SYSTEMS in benchmarks/coins.py")
    STEPS = flags.DEFINE_list("steps", ["128", "256", "1024", "4096"], "steps of ancestral sampling")
    BATCH = flags.DEFINE_integer("batch_size", 8, "rows", lower_bound=1)
    LENGTH = flags.DEFINE_integer("length", 128, "positions", lower_bound=1)
    WIDTH = flags.DEFINE_integer("width", 256, "of the network, a multiple of 8", lower_bound=8)
    LAYERS = flags.DEFINE_integer("layers", 4, "of the network", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 3, "turns", lower_bound=0)
    CLOCK = flags.DEFINE_enum("clock", "wall", CLOCKS, "wall time, or processor time of one pinned core")
    OUTPUT = flags.DEFINE_string("output", None, "a file for the tables, as Markdown")
    cli.run(main)
