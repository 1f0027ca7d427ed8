"""Measures a training step on this machine: its speed, the cost of the kernel, and the same model in PyTorch.

    python -m benchmarks.train_step                          all models, some minutes on two CPU cores
    python -m benchmarks.train_step --model=quickstart       only the model of configs/quickstart.py
    python -m benchmarks.train_step --model=openwebtext --change=network.attention=xla,training.batch_size=32
    python -m benchmarks.train_step --model=lm1b --system=mdlm
    python -m benchmarks.train_step --profile                only the speed of a step, and its slowest ops

It prints for a model:
  step          tokens per second of a full step (corruption, forward, loss, backward, update) with the loss of the
                configuration, and with the denoising loss if that is a different one
  outside       the share that the kernel adds: 1 - (a step on fixed noisy tokens with plain cross-entropy) / step
  corruption    the time to draw times and noisy tokens, as a share of a denoising step
  JAX, PyTorch  an AdamW step on uniform noise with plain cross-entropy: the same model, batch, number of threads and
                dtype. PyTorch runs in eager mode, with autocast for bfloat16. On a GPU, set
                XLA_PYTHON_CLIENT_PREALLOCATE=false
Every number is a median with minimum and maximum. The kinds of steps run one after the other, once in every turn, so a
shared machine slows all of them equally; ratios and shares are computed within a turn. On a busy machine, the processor
time of one core varies less: taskset -c 0 python -m benchmarks.train_step --clock=cpu. PyTorch is optional:
pip install torch==2.13.0
"""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import statistics

import jax
import jax.numpy as jnp
import optax
from absl import flags

from benchmarks.profiling import format_table, profile_ops
from benchmarks.timing import CLOCKS, interleave, machine, spread
from semdlm_jax import checks, cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import build, data
from semdlm_jax.experiment.configs import lm1b, openwebtext, quickstart
from semdlm_jax.objectives import NoisyBatch
from semdlm_jax.objectives.chunking import sum_losses
from semdlm_jax.runtime.mesh import batch_sharding, place_batch
from semdlm_jax.runtime.state import create_state
from semdlm_jax.train_step import make_train_step

# name -> (configuration, sequences per batch on two CPU cores, and on one GPU with 80 GB).
MODELS = {"quickstart": (quickstart, 64, 64), "lm1b": (lm1b, 4, 512), "openwebtext": (openwebtext, 1, 64)}

DRAWS = 50

# What the PyTorch step does: uniform noise, plain cross-entropy.
PLAIN = {
    "kernel__name": "uniform",
    "objective__name": "denoising",
    "objective__parameterization": "direct",
    "warmup__steps": 0,
}


@dataclasses.dataclass(frozen=True)
class FixedNoise:
    """Stands in for `Stages`: noisy tokens drawn once, scored by plain cross-entropy."""

    xt: jax.Array
    t: jax.Array
    chunk: int

    def corrupt(self, key, x0_BxL, mask_BxL, step):
        return NoisyBatch(x0_BxL, self.xt, self.t, mask_BxL)

    def sums(self, readout, features_BxLxD, batch, step, key):
        def positions(logits, x0, mask):
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, x0)
            return jnp.sum(loss * mask), jnp.sum(mask, dtype=jnp.float32)

        return sum_losses(positions, readout, features_BxLxD, batch.x0, batch.mask, chunk=self.chunk)


class Steps:
    """The compiled steps of one model. Steps with the same optimizer share one state, so that only one is in memory."""

    def __init__(self, config):
        self.config = config
        self.mesh = build.build_mesh(config)
        self.corpus = data.build_run_data(config)
        self.denoiser = build.build_denoiser(config, self.corpus)
        self.batch = place_batch(next(data.train_iterator(config, self.corpus)), self.mesh)
        self.tokens_a_step = self.batch["tokens"].size

    def stages(self, **changes):
        """The stages of the configuration, with `section__key=value` changed."""
        config = self.config.copy_and_resolve_references()
        for key, value in changes.items():
            section, _, name = key.partition("__")
            config[section][name] = value
        return build.build_stages(config, self.corpus)

    def fixed_noise(self):
        objective = self.stages().objectives[-1]
        _, xt, t, *_ = objective.corrupt(jax.random.key(0), self.batch["tokens"], self.batch["mask"])
        return FixedNoise(xt, t, objective.chunk)

    def corruption(self):
        """A function () that draws times and noisy tokens DRAWS times, because one draw is too short to time."""
        rows = batch_sharding(self.mesh)
        draw = jax.jit(self.stages().objectives[-1].corrupt, in_shardings=(None, rows, rows))
        keys = jax.random.split(jax.random.key(0), DRAWS)
        return lambda: jax.block_until_ready([draw(key, self.batch["tokens"], self.batch["mask"]) for key in keys])

    def compile(self, optimizer_name, several_stages):
        """{name: a function () that does one blocking step} of {name: stages}, and {name: program text}."""
        config = self.config.copy_and_resolve_references()
        config.optimizer.name = optimizer_name
        optimizer, _ = build.build_optimizer(config)
        state = create_state(self.denoiser.init, optimizer, jax.random.key(0), build.shard_rule(self.mesh))
        # After a warm-up with another objective.
        box = [dataclasses.replace(state, step=state.step + config.warmup.steps)]
        tokens, mask = self.batch["tokens"], self.batch["mask"]

        def compile_one(stages):
            step = make_train_step(
                stages,
                self.denoiser,
                optimizer,
                ema_decay=config.optimizer.ema_decay,
                microbatches=1,
                seed=0,
                mesh=self.mesh,
                state_shardings=jax.tree.map(lambda x: x.sharding, state),
            )
            return step.lower(box[0], tokens, mask).compile()

        def runner(compiled):
            def run():
                box[0], metrics = compiled(box[0], tokens, mask)
                jax.block_until_ready((box[0], metrics))

            return run

        programs = {name: compile_one(stages) for name, stages in several_stages.items()}
        return {name: runner(p) for name, p in programs.items()}, {name: p.as_text() for name, p in programs.items()}


def training_flops_per_token(denoiser, length):
    """Multiplications and additions of the matrix products, forward and backward (twice the forward)."""
    d, c, layers = denoiser.width, denoiser.condition_width, denoiser.layers
    per_token = layers * (4 + 2 * denoiser.expansion) * d * d + denoiser.vocab_size * d
    per_sequence = (layers * 6 + 2) * c * d + (128 + c) * c
    return 6 * (per_token + per_sequence / length) + 12 * layers * length * d


def torch_step(steps):
    """A function () that does one step of the same model in PyTorch."""
    import torch  # optional: only for this comparison

    from benchmarks.torch_backbone import TorchBackbone, make_torch_step

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_default_device("cpu" if jax.default_backend() == "cpu" else "cuda")
    options = steps.config.optimizer
    names = ("learning_rate", "b1", "b2", "eps", "weight_decay", "clip_norm", "ema_decay")
    return make_torch_step(
        TorchBackbone(steps.denoiser),
        steps.batch["tokens"],
        steps.denoiser.dtype,
        **{name: options[name] for name in names},
    )


def torch_is_there():
    """Whether PyTorch is installed, and finds a GPU if JAX uses one."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return jax.default_backend() == "cpu" or torch.cuda.is_available()


def load(name):
    """The configuration of MODELS with random tokens, a batch that fits and --change; and a line that describes it."""
    module, of_cpu, of_card = MODELS[name]
    config = module.get_config(SYSTEM.value)
    on_cpu = jax.default_backend() == "cpu"
    changes = {"data.corpus": "synthetic", "training.batch_size": of_cpu if on_cpu else of_card}
    changes |= {"network.dtype": "float32"} if on_cpu else {}
    changes |= dict(change.partition("=")[::2] for change in CHANGE.value)
    for key, value in changes.items():
        config_flag.set_key(config, key, str(value))
    return config, ", ".join(f"{key} = {value}" for key, value in changes.items())


def measure(name, repeats, clock):
    config, changed = load(name)
    steps = Steps(config)
    own, loss = config.optimizer.name, config.objective.name
    flops = training_flops_per_token(steps.denoiser, config.data.length)
    print(f"\n{name}: {steps.tokens_a_step} tokens a step, {flops / 1e6:,.1f} MFLOP a token; {changed}", flush=True)
    losses = {each: steps.stages(objective__name=each) for each in (loss, "denoising")}
    functions, _ = steps.compile(own, losses | {"fixed": steps.fixed_noise()})
    functions["corruption"] = steps.corruption()
    compare = torch_is_there()
    if compare:
        functions |= steps.compile("adamw", {"JAX": steps.stages(**PLAIN)})[0]
        functions["PyTorch"] = torch_step(steps)
    seconds = interleave(functions, repeats, clock)

    def speed(label, values):
        rate = spread([steps.tokens_a_step / value for value in values], "{:,.0f}")
        gflops = flops * steps.tokens_a_step / statistics.median(values) / 1e9
        print(f"  {label:22} {rate} tokens/s, {gflops:,.1f} GFLOP/s")

    def ratio(label, above, below, form, turn=lambda x: x):
        values = [turn(a / b) for a, b in zip(seconds[above], seconds[below])]
        print(f"  {label:22} {spread(values, form)}", flush=True)

    for each in losses:
        speed(f"step, {own}, {each}", seconds[each])
        ratio("  outside", "fixed", each, "{:.1%}", lambda share: 1 - share)
    ratio("  corruption", "corruption", "denoising", "{:.2%}", lambda share: share / DRAWS)
    if compare:
        speed("JAX, adamw", seconds["JAX"])
        speed("PyTorch, adamw", seconds["PyTorch"])
        ratio("JAX / PyTorch", "PyTorch", "JAX", "{:.2f}")
    else:
        print("  PyTorch: not compared, because it is not installed or finds no GPU")


def plain_product(dtype, count=4):
    """A function () that multiplies two square matrices `count` times, and its multiplications and additions."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = (jax.random.normal(jax.random.key(0), (size, size)) / size**0.5).astype(dtype)
    products = jax.jit(lambda x: functools.reduce(lambda y, _: x @ y, range(count), x))
    return lambda: jax.block_until_ready(products(x)), 2 * count * size**3


def profile(name, repeats, clock, keep):
    config, changed = load(name)
    steps = Steps(config)
    functions, texts = steps.compile(config.optimizer.name, {"step": steps.stages()})
    flops = training_flops_per_token(steps.denoiser, config.data.length) * steps.tokens_a_step
    print(f"\n{name}, {config.objective.name}, {config.optimizer.name}; {steps.tokens_a_step} tokens a step; {changed}")
    functions["product"], product_flops = plain_product(steps.denoiser.dtype)
    seconds = interleave(functions, repeats, clock)
    rate = [flops / value for value in seconds["step"]]
    ceiling = [product_flops / value for value in seconds["product"]]
    print(f"  tokens/s               {spread([steps.tokens_a_step / value for value in seconds['step']], '{:,.0f}')}")
    print(f"  GFLOP/s                {spread([value / 1e9 for value in rate], '{:,.0f}')}")
    print(f"  of a plain product     {spread([a / b for a, b in zip(rate, ceiling)], '{:.1%}')}")
    print(f"  plain product, GFLOP/s {spread([value / 1e9 for value in ceiling], '{:,.0f}')}")
    if peak := (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"):
        print(f"  peak memory            {peak / 1e9:.1f} GB")
    keep = f"{keep}/{name}-{SYSTEM.value or 'own'}" if keep else None
    print("\n".join(format_table(profile_ops(functions["step"], texts["step"], keep=keep), 40)), flush=True)


def main():
    if KEEP.value is not None:
        if not PROFILE.value:
            raise UserError("--keep is for what --profile finds: give both, or neither")
        checks.check_workdir(KEEP.value, written=True, flag="keep")
        pathlib.Path(KEEP.value).mkdir(parents=True, exist_ok=True)
    print(f"{machine()}, {REPEATS.value} turns")
    for name in MODELS if MODEL.value == "all" else [MODEL.value]:
        options = name, REPEATS.value, CLOCK.value
        profile(*options, KEEP.value) if PROFILE.value else measure(*options)


if __name__ == "__main__":
    MODEL = flags.DEFINE_enum("model", "all", [*MODELS, "all"], "the configuration whose step is measured")
    CHANGE = flags.DEFINE_list("change", [], "keys changed in the configuration: network.attention=xla,…")
    REPEATS = flags.DEFINE_integer("repeats", 10, "turns; each takes every kind of step once", lower_bound=1)
    CLOCK = flags.DEFINE_enum("clock", "wall", CLOCKS, "wall time, or processor time of one pinned core")
    SYSTEM = flags.DEFINE_string("system", None, "of experiment/systems.py; that of the configuration if none is named")
    PROFILE = flags.DEFINE_bool("profile", False, "print the step's speed and its slowest ops, and nothing else")
    KEEP = flags.DEFINE_string("keep", None, "Folder for what the profiler and the compiler wrote.")
    cli.run(main)
