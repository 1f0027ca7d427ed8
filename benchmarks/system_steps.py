"""Measures a training step of several systems side by side: what a kernel costs in training.

    python -m benchmarks.system_steps --systems=udlm,semdlm_nested,semdlm_plus,mdlm --losses=denoising,nelbo

Every system trains the network of a configuration on random tokens, with each of the losses. The steps run one after
the other, once in every turn, so that a shared machine slows all of them equally. It prints the median milliseconds of
a step (minimum to maximum), and the median of its ratio to the first system's step with the same loss, taken within a
turn. --vocab=30522 --batch=1 shows what grows with the vocabulary.
"""

import statistics

from absl import flags

from benchmarks.timing import interleave, machine, reporter, spread
from benchmarks.train_step import Steps
from semdlm_jax import cli
from semdlm_jax.experiment.configs import quickstart


def configure(system, loss, vocab_size, batch_size):
    config = quickstart.get_config(system)
    config.data.update(corpus="synthetic", vocab_size=vocab_size)
    config.objective.name, config.warmup.steps, config.training.batch_size = loss, 0, batch_size
    config.kernel.k_max = 16
    return config


def main():
    report = reporter(OUTPUT.value)
    systems, losses = SYSTEMS.value, LOSSES.value
    steps = {}
    for system in systems:
        for loss in losses:
            config = configure(system, loss, VOCAB.value, BATCH.value)
            own = Steps(config)
            steps[system, loss] = own.compile(config.optimizer.name, {"step": own.stages()})[0]["step"]
    seconds = interleave(steps, REPEATS.value)
    report(
        f"V = {VOCAB.value}, {BATCH.value} x 64 tokens a step, {REPEATS.value} turns; {machine()}",
        "",
        f"| system | loss | ms a step | against {systems[0]} |",
        "| --- | --- | ---: | ---: |",
    )
    for (system, loss), times in seconds.items():
        first = seconds[systems[0], loss]
        ratio = statistics.median(one / other for one, other in zip(times, first, strict=True))
        report(f"| {system} | {loss} | {spread([1e3 * time for time in times], '{:,.1f}')} | {ratio:.3f} |")


if __name__ == "__main__":
    SYSTEMS = flags.DEFINE_list("systems", ["udlm", "semdlm_nested", "semdlm_plus", "mdlm"], "names of systems")
    LOSSES = flags.DEFINE_list("losses", ["denoising", "nelbo"], "names of losses")
    VOCAB = flags.DEFINE_integer("vocab", 1024, "tokens of the vocabulary", lower_bound=600)
    BATCH = flags.DEFINE_integer("batch", 64, "sequences a step", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 15, "turns", lower_bound=1)
    OUTPUT = flags.DEFINE_string("output", None, "file for the table")
    cli.run(main)
