"""Writes text: python -m semdlm_jax.generate --workdir=runs/quickstart --num_samples=8 --steps=128 --strides=2

The whole reverse process is one compiled program (a scan over the steps); samples are drawn in batches. The same seed,
batch size and machine give the same text. Samples go to the terminal, and with --output also to a JSONL file:
{"index": 0, "text": "…", "tokens": [...]} a line.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from semdlm_jax import assembly, cli
from semdlm_jax.errors import UserError
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.samplers import Sampler, make_plan


def encode_prompt(tokenizer, prompt, length):
    """int32 tokens of the prompt. UserError when it leaves nothing to write."""
    tokens = tokenizer.encode(prompt)
    if len(tokens) >= length:
        raise UserError(f"the prompt has {len(tokens)} tokens but the context holds {length}: shorten it")
    return tokens


def generate(
    trained, *, num_samples, steps, strides, temperature=1.0, seed=0, prompt=(), batch_size=64, sampler="ancestral"
):
    """[num_samples, L] int32 text tokens, on the host.

    prompt: token ids that start every sample and never change. UserError for impossible settings, before any work.
    """
    length = trained.config.data.length
    if isinstance(trained.objective, Autoregressive):
        raise UserError("an autoregressive run has no reverse process to sample from: it can be evaluated, not sampled")
    if num_samples < 1 or batch_size < 1:
        raise UserError(f"--num_samples={num_samples} and --batch_size={batch_size} must be at least 1")
    if temperature < 0:
        raise UserError(f"--temperature={temperature} is negative: give 0 (most likely token) or more")
    plan = make_plan(steps, strides, length, trained.objective.t_min)
    rows = assembly.whole_rows(min(batch_size, num_samples), trained.mesh)
    given = np.zeros((rows, length), np.int32)
    given[:, : len(prompt)] = prompt
    is_given = np.broadcast_to(np.arange(length) < len(prompt), given.shape)
    fixed = place_batch({"given": given, "is_given": is_given}, trained.mesh)
    chosen = Sampler(sampler, trained.objective.kernel, trained.objective.posterior)

    @jax.jit
    def compiled(params, key, given, is_given, plan, temperature, forbidden):
        def logits(tokens, t, lengths):
            return trained.denoiser.apply(params, tokens, t, lengths_B=lengths)

        return chosen.sample(key, logits, given, is_given, plan, temperature=temperature, forbidden_V=forbidden)

    run = functools.partial(
        compiled,
        trained.params,
        given=fixed["given"],
        is_given=fixed["is_given"],
        plan=plan,
        temperature=jnp.float32(temperature),
        forbidden=jnp.asarray(trained.corpus.forbidden),
    )
    batches = -(-num_samples // rows)
    with Progress(batches, units_per_step=rows * (length - len(prompt)), label=f"generate {num_samples}") as progress:
        parts = []
        for index in range(batches):
            parts.append(np.asarray(run(key=jax.random.fold_in(jax.random.key(seed), index))))
            progress.update(index + 1)
    return np.concatenate(parts)[:num_samples]


def main(options):
    cli.check_output(options.output)
    trained = assembly.load_trained(options.workdir, options.checkpoint)
    if trained.corpus.prepared is None:
        raise UserError(f"{options.workdir} was trained on synthetic tokens: there is no text to generate")
    tokenizer = trained.corpus.prepared.tokenizer
    prompt = encode_prompt(tokenizer, options.prompt, trained.config.data.length) if options.prompt else ()
    tokens = generate(
        trained,
        num_samples=options.num_samples,
        steps=options.steps,
        strides=options.strides,
        temperature=options.temperature,
        seed=options.seed,
        prompt=prompt,
        batch_size=options.batch_size,
        sampler=options.sampler,
    )
    texts = [tokenizer.decode(row) for row in tokens]
    for index, text in enumerate(texts):
        print(f"── {index} ──\n{text}\n")
    if options.output:
        rows = ({"index": i, "text": text, "tokens": row.tolist()} for i, (text, row) in enumerate(zip(texts, tokens)))
        pathlib.Path(options.output).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{len(texts)} samples written to {options.output}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "the work directory of a training run")
    flags.DEFINE_enum("checkpoint", "best", ["best", "latest"], "Which of its checkpoints; its EMA weights are used.")
    flags.DEFINE_integer("num_samples", 8, "How many samples.")
    flags.DEFINE_integer("steps", 128, "Network evaluations for the whole sequence, shared between the strides.")
    flags.DEFINE_integer("strides", 1, "Equal parts of the sequence, generated left to right.")
    flags.DEFINE_string("sampler", "ancestral", "How a step is taken; a name of samplers.SAMPLERS.")
    flags.DEFINE_float("temperature", 1.0, "Divides the log-probabilities of each draw; 0 takes the most likely token.")
    flags.DEFINE_integer("seed", 0, "Seed of all randomness.")
    flags.DEFINE_string("prompt", "", "Text that starts every sample.")
    flags.DEFINE_integer("batch_size", 64, "Samples drawn at once.")
    flags.DEFINE_string("output", None, "JSONL file for tokens and text.")
    cli.run(lambda: main(flags.FLAGS), required=["workdir"])
