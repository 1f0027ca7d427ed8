"""Writes text: python -m semdlm_jax.generate --workdir=runs/quickstart --num_samples=8 --steps=128 --strides=2
Or, without training: python -m semdlm_jax.generate --model=quickstart-mdlm --prompt="my fellow citizens"

The whole reverse process is one compiled program (a scan over the steps). Samples are drawn in batches. The same
command on the same number of devices of the same kind gives the same text; another batch size or number of samples
gives other text. Samples are printed as soon as their batch is finished. With --output=FILE each batch is first written
to disk, one line {"index": 0, "prompt": "…", "text": "…", "tokens": [...], "run": "…", …} for each sample, which ends
with how it was made: run, checkpoint, step, seed, batch_size, and the settings of the sampler. Until all samples are
finished they are in FILE.partial. A stopped run leaves this file, and the next start does not change it (it writes
FILE.partial-2).

    --preset=remdm_loop                         the settings of a system's authors; other flags change single settings
    --prompt="my fellow citizens"               the start of every sample; --suffix: its end; --prompts=FILE: one a line
    --infill="the [___] of the union is [__]"   text with blanks, one underscore for each token
    --infill="my [__], we met[_] him and good night"
                                                text directly after a blank continues its word
    --lambda_freq=0.5 --lambda_sem=0.5          fewer repeated tokens, and fewer tokens of similar meaning (Eq. 23)
    --trace=trace.html                          a page that replays how the first samples were generated

A sample is a row of the run's protocol. Each document in it is printed as one line.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from semdlm_jax import cli, config_flag, remote, storage, streams, trace
from semdlm_jax.data import conditioning
from semdlm_jax.data.conditioning import Condition
from semdlm_jax.data.protocols import read_row
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import whole_rows
from semdlm_jax.experiment.load import Trained, load_trained
from semdlm_jax.generator import check_conditions, make_generator, note_of_context
from semdlm_jax.keys import check_options
from semdlm_jax.options import counted
from semdlm_jax.plugins import options_of
from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.progress import Progress, tell
from semdlm_jax.samplers import METHODS, SamplingSettings
from semdlm_jax.samplers.presets import PRESETS, make_settings

BATCH_SIZE = 64  # samples drawn at once, if not given


def generate(
    trained: Trained,
    settings: SamplingSettings,
    *,
    num_samples: int,
    seed: int = 0,
    conditions: Sequence[Condition] | None = None,
    batch_size: int = BATCH_SIZE,
    recorded: int = 0,
) -> tuple[np.ndarray, trace.Trace | None]:
    """Generates rows of the run's protocol, with their begin and end tokens.

    A second call with the same shapes and sampler compiles nothing. The samples depend on `batch_size` and on the
    number of devices.

    Args:
        trained: the model.
        settings: of the sampler.
        num_samples: samples of each condition.
        seed: of all randomness. Under a padded protocol it also draws the lengths, from those of the train split.
        conditions: C Conditions; None for one without given tokens.
        batch_size: samples drawn at once.
        recorded: rows whose trajectory is recorded.

    Returns:
        ([C x num_samples, L] int32, the Trace of the first `recorded` rows or None), on the host.

    Raises:
        UserError: impossible settings, before any work.
    """
    options = {"seed": seed, "conditions": conditions, "batch_size": batch_size, "recorded": recorded}
    texts, ways, _ = zip(*write_batches(trained, settings, num_samples=num_samples, **options))
    return np.concatenate(texts), ways[0]


class Batch(NamedTuple):
    """tokens: [B, L] int32, finished rows. replay: the Trace of the first rows, in the first batch, if asked for.
    evaluations: of the network, by the reverse process; None without one."""

    tokens: np.ndarray
    replay: trace.Trace | None
    evaluations: int | None


def write_batches(
    trained: Trained,
    settings: SamplingSettings,
    *,
    num_samples: int,
    seed: int,
    conditions: Sequence[Condition] | None,
    batch_size: int,
    recorded: int,
) -> Iterator[Batch]:
    """As `generate`, batch by batch. A UserError is raised before the first batch."""
    check_options("flags", num_samples=num_samples, seed=seed, batch_size=batch_size)
    conditions = conditions or [Condition()]
    total = num_samples * len(conditions)
    rows = whole_rows(min(batch_size, total), trained.mesh)
    recorded = min(recorded, rows, total)
    generator = make_generator(trained, settings, recorded)
    check_conditions(conditions, settings, generator.chain)
    batches = -(-total // rows)
    # The last batch is filled up with samples of the last condition.
    which = np.minimum(np.arange(batches * rows) // num_samples, len(conditions) - 1).reshape(batches, rows)
    lengths, protocol = np.random.default_rng(seed), trained.rows("train")
    layouts = [conditioning.lay_out([conditions[i] for i in picked], protocol, lengths) for picked in which]
    free = int(np.mean([np.sum(~layout.given) for layout in layouts]))
    if note := generator.note_of_work(free / rows):
        tell(note)
    with Progress(batches, units_per_step=free, label=f"generate {total}") as progress:
        for index, layout in enumerate(layouts):
            key = jax.random.fold_in(jax.random.key(seed), index)
            text, trajectory = generator.write(key, layout)
            shown = trajectory if recorded and index == 0 else None
            replay = None if shown is None else generator.trace(shown, layout.given[:recorded])
            progress.update(index + 1)
            evaluations = None if trajectory is None else int(trajectory.evaluations)
            yield Batch(text[: total - index * rows], replay, evaluations)


def read_conditions(options, tokenizer, room):
    """The Conditions that the flags ask for.

    Warns of text that the vocabulary does not know. UserError: flags exclude one another, or the vocabulary knows
    nothing of the text.
    """
    asked = [name for name in ("prompt", "prompts", "infill") if getattr(options, name) not in (None, "")]
    if len(asked) > 1 or (options.suffix and options.infill):
        raise UserError(f"--{asked[0]} and --{asked[1] if len(asked) > 1 else 'suffix'} exclude one another: give one")
    flag, prompts = "--prompt", {"the prompt": options.prompt}
    if options.prompts is not None:
        flag, lines = f"--prompts={options.prompts}", conditioning.read_prompts(options.prompts)
        prompts = {f"{flag}, line {number},": line for number, line in lines.items()}
    names = {"prompt": flag, "suffix": "--suffix", "infill": "--infill"}
    return conditioning.make_conditions(tokenizer, room, prompts, options.suffix, options.infill, names, _warn)


def main(options):
    cli.join_processes()
    cli.check_output(options.output)
    cli.check_output(options.trace, "trace")
    cli.check_distinct(output=options.output, trace=options.trace, prompts=options.prompts)
    own = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    settings = make_settings(options.preset, options=own, **{name: getattr(options, name) for name in SETTINGS})
    source = cli.find_model(options)
    tell(f"reading {remote.origin(source)}")
    trained = load_trained(source, **cli.load_options(options))
    if trained.corpus.prepared is None:
        raise UserError(f"{source} was trained on synthetic tokens: there is no text to generate")
    tokenizer = trained.corpus.prepared.tokenizer
    conditions = read_conditions(options, tokenizer, trained.rows("train").max_text_len)
    batches = write_batches(
        trained,
        settings,
        num_samples=options.num_samples,
        seed=options.seed,
        conditions=conditions,
        batch_size=options.batch_size,
        recorded=options.trace_samples if options.trace else 0,
    )
    if jax.process_index() != 0:
        for _ in batches:
            pass
        return
    count, asked, made = 0, [], _made(source, options, trained.step, settings)
    with _growing(options.output) as append:
        for tokens, replay, evaluations in batches:
            asked += [] if evaluations is None else [evaluations]
            prompts = [conditions[i // options.num_samples].text for i in range(count, count + len(tokens))]
            pairs = enumerate(zip(prompts, tokens, strict=True))
            samples = [_sample(tokenizer, count + i, *pair) | made for i, pair in pairs]
            append("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))
            if not count:
                _show(f"{settings}; EMA weights, step {trained.step}; {_what_repeats(options)}")
                if note := note_of_context(trained, conditions, settings):
                    tell(note)
            if replay is not None:
                _write_trace(options, trained, settings, replay)
            for sample in samples:
                _show(f"── {sample['index']} ──\n{sample['text']}\n")
            count += len(samples)
            if streams.nobody_reads() and not options.output and jax.process_count() == 1:
                return
    if asked:
        tell(f"{counted(sum(asked), 'network evaluation')} in {counted(len(asked), 'batch', 'batches')}")
    if options.output:
        print(f"{counted(count, 'sample')} written to {options.output}")


def _growing(path):
    """`storage.growing`; without a path a function that discards its text."""
    return storage.growing(path) if path else contextlib.nullcontext(lambda text: None)


def _show(text):
    """Prints without breaking a progress bar."""
    tqdm.write(text, file=sys.stdout)


def _what_repeats(options):
    """What else the text depends on."""
    batch, devices = f"--num_samples={options.num_samples} --batch_size={options.batch_size}", jax.device_count()
    return f"repeat it with the same flags and --seed={options.seed} {batch} on {counted(devices, 'device')}"


def _warn(text):
    tell(f"warning: {text}")


def _sample(tokenizer, index, prompt, row):
    """A line of the file."""
    row = row[row != tokenizer.pad_id]
    return {"index": index, "prompt": prompt, "text": read_row(tokenizer, row), "tokens": row.tolist()}


def _made(source, options, step, settings):
    """How samples were made, the same on every line of the file."""
    return {
        "run": remote.origin(source),
        "checkpoint": options.checkpoint,
        "step": step,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "settings": dataclasses.asdict(settings),
    }


def _write_trace(options, trained, settings, replay):
    prepared, neighbors = trained.corpus.prepared, np.asarray(trained.corpus.table.ids)
    tokenizer = prepared.tokenizer
    symbols = trace.symbol_names(trained.objective.kernel, tokenizer.pieces, prepared.unigram)
    trace.write_page(
        options.trace,
        replay,
        trace.events(replay, neighbors),
        [piece if i != tokenizer.pad_id else "" for i, piece in enumerate(tokenizer.pieces)] + symbols,
        title=f"{options.workdir or options.model}, step {trained.step}",
        settings={"kernel": trained.config.kernel.name, "sampling": str(settings), "seed": str(options.seed)},
        mask_id=tokenizer.mask_id,
    )
    _show(f"the trace of {counted(len(replay.initial), 'sample')} written to {options.trace}: open it in a browser")


def _define_flags():
    """Returns the names of the flags that are settings, and of those that are options of one sampler."""
    run, what, how = "[run] ", "[what is given] ", "[sampler] "
    cli.define_model_flags(run)
    flags.DEFINE_integer("num_samples", 8, run + "Number of samples of every prompt.")
    flags.DEFINE_integer("seed", 0, run + "Seed of all randomness. The text also depends on the batch size.")
    flags.DEFINE_integer(
        "batch_size", BATCH_SIZE, run + "Samples drawn at once. Another number, or other devices, gives other text."
    )
    flags.DEFINE_string("output", None, run + "JSONL file for tokens and text, written batch by batch.")
    flags.DEFINE_string("trace", None, run + "HTML page that replays the first samples, step by step.")
    flags.DEFINE_integer("trace_samples", 4, run + "Number of samples that --trace replays.", lower_bound=1)
    flags.DEFINE_string("prompt", "", what + "Text that starts every sample.")
    flags.DEFINE_string(
        "suffix", "", what + "Text that ends every sample. It begins a new word if it starts with a space."
    )
    flags.DEFINE_string("prompts", None, what + "UTF-8 file of prompts, one on each line; .gz files are decompressed.")
    flags.DEFINE_string("infill", None, what + "Text with blanks [___], one underscore for each token to fill in.")
    flags.DEFINE_enum(
        "preset", None, list(PRESETS), how + "Settings of a system's authors. Other flags change single settings."
    )
    names = _define_setting_flags()
    cli.define_process_flags()
    return names


DRAWS = "temperature", "top_k", "top_p", "lambda_freq", "lambda_sem", "window"  # settings under a heading of their own


def _define_setting_flags():
    """The flags of all settings, and of the options of all samplers, one of the user's own on the command line among
    them. Returns the names of the settings and of the options."""
    settings = options_of(SamplingSettings)
    for name, option in settings.items():
        heading = "[draws] " if name in DRAWS else "[sampler] "
        default = "the training's" if name == "t_min" else option.default
        cli.define_option_flag(name, option, heading, f"Default: {default}")
    methods = dict(METHODS)
    with contextlib.suppress(UserError):  # told when the settings are made
        if ":" in (own := config_flag.flag_text(sys.argv, "sampler") or ""):
            methods[own] = METHODS.find(own)
    options = {}
    for name, method in methods.items():
        for key, option in options_of(method).items():
            options.setdefault(key, {})[name] = option
    for key, having in options.items():
        defaults = {name: option.default for name, option in having.items()}
        shown = ", ".join(f"{default} of {name}" for name, default in defaults.items())
        cli.define_option_flag(key, next(iter(having.values())), f"[{', '.join(having)}] ", f"Default: {shown}")
    return list(settings), list(options)


if __name__ == "__main__":
    SETTINGS, OPTIONS = _define_flags()
    with distributed.ends_together():
        cli.run(lambda: main(flags.FLAGS), required=[cli.MODEL], compiles=True)
