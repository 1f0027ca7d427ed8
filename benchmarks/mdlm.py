"""Compares a training step and the sampler with MDLM's own PyTorch code, on one machine, in turns.

    git clone https://github.com/kuleshov-group/mdlm ../mdlm; pip install torch==2.13.0 einops
    python -m benchmarks.mdlm --checkout=../mdlm
    python -m benchmarks.mdlm --checkout=../mdlm --size=110M --only=training
    taskset -c 0 python -m benchmarks.mdlm --checkout=../mdlm --clock=cpu        on a busy machine

Both train the system `mdlm` under its bound: the same tokens a step, width, layers, heads, vocabulary and dropout, with
clipping, AdamW and the moving average; float32 on a CPU, bfloat16 on a GPU. Neither table is tied to the other. Its
code runs from the checkout (mdlm_code.py says how). Samplers write the same number of texts in the same number of
steps, at temperature 1 from networks at their initial state, theirs with its cache. Every number is a median
(minimum to maximum) over turns, and ratios are taken within a turn.
"""

import importlib.util
import os

import jax
import numpy as np
from absl import flags

from benchmarks.timing import CLOCKS, interleave, machine, reporter, spread
from benchmarks.train_step import Steps
from semdlm_jax import cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import build
from semdlm_jax.experiment.configs import lm1b
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Sampler, make_controls, make_method, make_plan

# Of each size: changes to configs/lm1b.py, rows on a CPU, and on a GPU.
SIZES = {
    "110M": ({}, 2, 512),
    "width256": ({"network.width": 256, "network.layers": 4, "network.unroll": 4, "network.heads": 4}, 8, 512),
}


def load(size, changes):
    """The configuration of our system."""
    own, of_cpu, of_card = SIZES[size]
    config, on_cpu = lm1b.get_config("mdlm"), jax.default_backend() == "cpu"
    every = {**own, "data.corpus": "synthetic", "training.batch_size": of_cpu if on_cpu else of_card}
    every |= {"network.dtype": "float32"} if on_cpu else {}
    for key, value in (every | changes).items():
        config_flag.set_key(config, key, str(value))
    return config


def our_sampler(steps, shape, total):
    """A function () that writes a batch of text."""
    kernel = build.build_objective(steps.config, steps.corpus).kernel
    vocab = steps.denoiser.vocab_size
    controls = make_controls(None, forbidden_V=np.arange(vocab) == kernel.mask_id)
    plan = make_plan(kernel, total, 1, shape[1], 1e-5)
    sampler = Sampler(make_method("ancestral"), kernel, make_posterior(steps.config.objective.parameterization))
    params = jax.jit(steps.denoiser.init)(jax.random.key(0))
    given = np.zeros(shape, np.int32)

    @jax.jit
    def write(params, key):
        network = build.build_network(steps.denoiser, params)
        return sampler.sample(key, network, given, given > 0, plan, controls)[0]

    return lambda: np.asarray(write(params, jax.random.key(0)))


def measure(options):
    cli.check_output(options.output)
    if not all(importlib.util.find_spec(name) for name in ("torch", "einops")):
        raise UserError("this comparison needs PyTorch and einops: pip install torch==2.13.0 einops")
    import torch  # optional: only for this comparison

    from benchmarks.mdlm_code import Peer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_default_device("cpu" if jax.default_backend() == "cpu" else "cuda")
    config = load(options.size, dict(change.partition("=")[::2] for change in options.change))
    steps, total = Steps(config), options.steps
    shape = config.training.batch_size, config.data.length
    sampled = options.rows, config.data.length
    peer = Peer(options.checkout, steps.denoiser, shape, config.optimizer, total, options.compile)
    peer.model.config.loader.eval_batch_size = options.rows
    report = reporter(options.output)
    compiled = "compiled" if options.compile else "eager"
    report(
        f"{machine()}, PyTorch {torch.__version__} ({compiled}); {options.repeats} turns, {options.clock} time; "
        f"{options.size}: {steps.denoiser.layers} layers of width {steps.denoiser.width}, {steps.denoiser.dtype}, "
        f"{peer.parameters / 1e6:.1f}M parameters of theirs with both tables",
        "",
    )
    if options.only != "sampling":
        ours = steps.compile(config.optimizer.name, {"ours": steps.stages()})[0]["ours"]
        seconds = interleave({"ours": ours, "theirs": peer.train}, options.repeats, options.clock)
        report(*lines(f"training step, {shape[0]} x {shape[1]} tokens", seconds, "{:.3f} s", 1.0))
    if options.only != "training":
        write = our_sampler(steps, sampled, total)
        for text in (write(), peer.sample()):
            if text.shape != sampled or (text == steps.denoiser.vocab_size - 1).any():
                raise UserError(f"a sampler left masks, or gave {text.shape}: the comparison would be of other work")
        seconds = interleave({"ours": write, "theirs": peer.sample}, options.repeats, options.clock)
        report(*lines(f"sampling step, {sampled[0]} x {sampled[1]}, of {total}", seconds, "{:.1f} ms", 1000 / total))


def lines(title, seconds, form, scale):
    ratios = [theirs / ours for theirs, ours in zip(seconds["theirs"], seconds["ours"])]
    each = [f"{name} {spread([x * scale for x in seconds[name]], form)}" for name in ("ours", "theirs")]
    return (f"{title}: {', '.join(each)}; {spread(ratios, '{:.2f}')} times as fast",)


if __name__ == "__main__":
    flags.DEFINE_string("checkout", None, "the folder of MDLM's code")
    flags.DEFINE_enum("size", "width256", list(SIZES), "of the network")
    flags.DEFINE_list("change", [], "keys changed in our configuration: network.attention=xla,…")
    flags.DEFINE_enum("only", "both", ["both", "training", "sampling"], "what is compared")
    flags.DEFINE_integer("steps", 128, "of the samplers", lower_bound=1)
    flags.DEFINE_integer("rows", 8, "texts of the samplers", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "turns", lower_bound=1)
    flags.DEFINE_enum("clock", "wall", CLOCKS, "wall time, or processor time of one pinned core")
    flags.DEFINE_bool("compile", False, "their network through torch.compile")
    flags.DEFINE_string("output", None, "a file for the lines")
    cli.run(lambda: measure(flags.FLAGS), required=("checkout",))
