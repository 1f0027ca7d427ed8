"""Writes text: python -m semdlm_jax.generate --workdir=runs/quickstart --num_samples=8 --steps=128 --strides=2

The whole reverse process is one compiled program (a scan over the steps); samples are drawn in batches. The same seed,
batch size and machine give the same text. Samples go to the terminal, and with --output also to a JSONL file:
{"index": 0, "prompt": "…", "text": "…", "tokens": [...]} a line.

    --preset=remdm_loop                         a system's authors' settings; single flags change them
    --prompt="my fellow citizens"               the start of every sample; --suffix its end; --prompts=FILE one a line
    --infill="the [___] of the union is [__]"   blanks, an underscore a token
    --lambda_freq=0.5 --lambda_sem=0.5          less of what has been said, and of what means the same (Eq. 23)
    --trace=trace.html                          a page that replays how the first samples came to be

A sample is a row of the run's protocol; its documents are printed a line each.
"""

import json
import pathlib

import jax
import numpy as np
from absl import flags

from semdlm_jax import assembly, cli, trace
from semdlm_jax.data import conditioning
from semdlm_jax.data.protocols import read_row
from semdlm_jax.errors import UserError
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.runtime.progress import Progress
from semdlm_jax.samplers import METHODS, Sampler, make_controls, make_method, make_plan, sample_autoregressive
from semdlm_jax.samplers.plan import GRIDS
from semdlm_jax.samplers.presets import PRESETS, make_settings


class Generator:
    """A trained model with the settings of its sampler, compiled once for all prompts, seeds and temperatures.

    recorded: of how many rows of a batch the whole way is kept. UserError for impossible settings, before any work.
    """

    def __init__(self, trained, settings, recorded=0):
        self.trained, self.settings, self.recorded = trained, settings, recorded
        self.controls = make_controls(
            trained.corpus.vocabulary.table,
            forbidden_V=trained.forbidden,
            **{
                name: getattr(settings, name)
                for name in "temperature greedy_end top_k top_p lambda_freq lambda_sem window".split()
            },
        )
        self.chain = isinstance(trained.objective, Autoregressive)
        if self.chain:
            _check_chain(settings, recorded)
            self._compiled = jax.jit(self._write_chain)
            return
        length, objective = trained.config.data.length, trained.objective
        method = make_method(settings.sampler, **settings.options)
        self.sampler = Sampler(
            method, objective.kernel, objective.posterior, settings.corrector_steps, settings.corrector_strength
        )
        self.plan = make_plan(
            objective.kernel,
            settings.steps,
            settings.strides,
            length,
            objective.t_min if settings.t_min is None else settings.t_min,
            grid=settings.grid,
            between=method.between(objective.kernel),
        )
        self._compiled = jax.jit(self._write)

    def _write(self, params, key, layout, plan, controls):
        network = assembly.build_network(self.trained.denoiser, params)
        return self.sampler.sample(
            key,
            network,
            layout["tokens"],
            layout["given"],
            plan,
            controls,
            recorded=self.recorded,
            lengths_B=layout.get("lengths"),
        )

    def _write_chain(self, params, key, layout, plan, controls):
        given, is_given = layout["tokens"], layout["given"]
        denoiser, start_id = self.trained.denoiser, self.trained.objective.start_id
        text = sample_autoregressive(
            key,
            lambda token, position, cache: denoiser.step(params, token, position, cache),
            lambda features: denoiser.logits(params, features),
            denoiser.init_cache(*given.shape),
            start_id,
            given,
            is_given,
            controls.choose,
        )
        return text, None

    def write(self, key, layout):
        """(text [B, L] int32, Record), on the host. layout: a Layout of B rows, which divide over the mesh."""
        rows = {name: value for name, value in layout._asdict().items() if value is not None}
        plan = None if self.chain else self.plan
        out = self._compiled(self.trained.params, key, place_batch(rows, self.trained.mesh), plan, self.controls)
        return jax.tree.map(np.asarray, out)

    def trace(self, record, is_given):
        """The Trace of a Record; is_given: [R, L] of its rows."""
        t, s, _, start, stop = self.plan
        more = len(record.tokens) - len(t)
        if more:  # corrections of finished text
            at = np.full(more, self.sampler.method.correct_time)
            t, s = np.append(t, at), np.append(s, at)
            start, stop = np.append(start, np.zeros(more, int)), np.append(stop, np.full(more, is_given.shape[1]))
        return trace.Trace(t, s, start, stop, *record, is_given)


def _check_chain(settings, recorded):
    """UserError for settings that only a reverse process has."""
    for name in ("sampler", "options", "strides", "grid", "corrector_steps", "t_min", "window"):
        if getattr(settings, name) != getattr(make_settings(), name):
            raise UserError(f"an autoregressive run writes left to right, a token a step: {name} says nothing there")
    if recorded:
        raise UserError("an autoregressive run has no reverse process to replay: leave out --trace")


def check_conditions(conditions, settings, chain):
    """UserError where what is given could not be seen by what is written."""
    if all(condition.only_prompt for condition in conditions):
        return
    if chain:
        raise UserError("an autoregressive run sees only what stands before: give a prompt, no suffix and no blanks")
    if settings.strides > 1:
        raise UserError(
            f"--strides={settings.strides} would hide a suffix from what is written first: give --strides=1"
        )


def generate(trained, settings, *, num_samples, seed=0, conditions=None, batch_size=64, recorded=0):
    """([C x num_samples, L] int32 tokens of rows, Trace of the first `recorded` of them or None), on the host.

    Rows are as the run's protocol has them: begin and end tokens in their places and, where rows are padded, lengths
    drawn from the train split's. conditions: C Conditions, num_samples samples of each; None is a free one. UserError
    for impossible settings, before any work.
    """
    if num_samples < 1 or batch_size < 1:
        raise UserError(f"--num_samples={num_samples} and --batch_size={batch_size} must be at least 1")
    conditions = conditions or [conditioning.Condition()]
    total = num_samples * len(conditions)
    rows = assembly.whole_rows(min(batch_size, total), trained.mesh)
    recorded = min(recorded, rows, total)
    generator = Generator(trained, settings, recorded)
    check_conditions(conditions, settings, generator.chain)
    batches = -(-total // rows)
    # The last batch is filled up with the last condition's.
    which = np.minimum(np.arange(batches * rows) // num_samples, len(conditions) - 1).reshape(batches, rows)
    lengths, protocol = np.random.default_rng(seed), trained.rows("train")
    layouts = [conditioning.lay_out([conditions[i] for i in picked], protocol, lengths) for picked in which]
    free = int(np.mean([np.sum(~layout.given) for layout in layouts]))
    texts, way = [], None
    with Progress(batches, units_per_step=free, label=f"generate {total}") as progress:
        for index, layout in enumerate(layouts):
            key = jax.random.fold_in(jax.random.key(seed), index)
            text, record = generator.write(key, layout)
            texts.append(text)
            if recorded and index == 0:
                way = generator.trace(record, layout.given[:recorded])
            progress.update(index + 1)
    return np.concatenate(texts)[:total], way


def read_conditions(options, tokenizer, room):
    """The Conditions that the flags ask for; UserError when they exclude one another."""
    asked = [name for name in ("prompt", "prompts", "infill") if getattr(options, name)]
    if len(asked) > 1 or (options.suffix and options.infill):
        raise UserError(f"--{asked[0]} and --{asked[1] if len(asked) > 1 else 'suffix'} exclude one another: give one")
    if options.infill:
        return [conditioning.fill_in(tokenizer, options.infill, room)]
    prompts = conditioning.read_prompts(options.prompts) if options.prompts else [options.prompt]
    return [conditioning.continue_from(tokenizer, prompt, room, options.suffix) for prompt in prompts]


def main(options):
    cli.check_output(options.output)
    cli.check_output(options.trace, "trace")
    own = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    settings = make_settings(options.preset, options=own, **{name: getattr(options, name) for name in SETTINGS})
    trained = assembly.load_trained(options.workdir, options.checkpoint)
    if trained.corpus.prepared is None:
        raise UserError(f"{options.workdir} was trained on synthetic tokens: there is no text to generate")
    tokenizer = trained.corpus.prepared.tokenizer
    conditions = read_conditions(options, tokenizer, trained.rows("train").room)
    tokens, way = generate(
        trained,
        settings,
        num_samples=options.num_samples,
        seed=options.seed,
        conditions=conditions,
        batch_size=options.batch_size,
        recorded=options.trace_samples if options.trace else 0,
    )
    print(settings)
    rows = []
    for index, row in enumerate(tokens):
        row = row[row != tokenizer.pad_id]
        prompt, text = conditions[index // options.num_samples].text, read_row(tokenizer, row)
        rows.append({"index": index, "prompt": prompt, "text": text, "tokens": row.tolist()})
        print(f"── {index} ──\n{text}\n")
    if options.output:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        pathlib.Path(options.output).write_text(text)
        print(f"{len(rows)} samples written to {options.output}")
    if options.trace:
        neighbours = np.asarray(trained.corpus.vocabulary.table.ids)
        trace.write_page(
            options.trace,
            way,
            trace.events(way, neighbours),
            [piece if i != tokenizer.pad_id else "" for i, piece in enumerate(tokenizer.pieces)],
            title=f"{options.workdir}, step {trained.step}",
            settings={"kernel": trained.config.kernel.name, "sampling": str(settings), "seed": str(options.seed)},
            mask_id=tokenizer.mask_id,
        )
        print(f"the way of {len(way.initial)} samples written to {options.trace}: open it in a browser")


def _define_flags():
    """Returns the names of the flags that are settings, and of those that are options of one sampler."""
    run, what, how = "[run] ", "[what is given] ", "[sampler] "
    flags.DEFINE_string("workdir", None, "the work directory of a training run")
    flags.DEFINE_enum("checkpoint", "best", ["best", "latest"], run + "Which checkpoint; its EMA weights are used.")
    flags.DEFINE_integer("num_samples", 8, run + "How many samples, of every prompt.")
    flags.DEFINE_integer("seed", 0, run + "Seed of all randomness.")
    flags.DEFINE_integer("batch_size", 64, run + "Samples drawn at once.")
    flags.DEFINE_string("output", None, run + "JSONL file for tokens and text.")
    flags.DEFINE_string("trace", None, run + "HTML page that replays the first samples, step by step.")
    flags.DEFINE_integer("trace_samples", 4, run + "How many it replays.", lower_bound=1)
    flags.DEFINE_string("prompt", "", what + "Text that starts every sample.")
    flags.DEFINE_string("suffix", "", what + "Text that ends every sample.")
    flags.DEFINE_string("prompts", None, what + "File of prompts, one a line.")
    flags.DEFINE_string("infill", None, what + "Text with blanks [___], an underscore for each token to fill in.")
    flags.DEFINE_enum("preset", None, list(PRESETS), how + "Settings of a system's authors; other flags change them.")
    known = flags.FLAGS.flag_values_dict()
    flags.DEFINE_enum("sampler", None, list(METHODS), how + "How a step is taken. Default: ancestral.")
    flags.DEFINE_integer("steps", None, how + "Network evaluations for the sequence, over all strides. Default: 128.")
    flags.DEFINE_integer("strides", None, how + "Equal parts of the sequence, left to right. Default: 1.")
    flags.DEFINE_enum("grid", None, list(GRIDS), how + "Spacing of the times. Default: uniform.")
    flags.DEFINE_float("t_min", None, how + "Where the last step starts. Default: the training's.")
    flags.DEFINE_bool("greedy_end", None, how + "The last step takes the likeliest token.")
    flags.DEFINE_integer("corrector_steps", None, how + "Evaluations after each step that redraw tokens. Default: 0.")
    flags.DEFINE_float("corrector_strength", None, how + "Chance that one redraws a token. Default: 0.1.")
    draw = "[draws] "
    flags.DEFINE_float("temperature", None, draw + "Divides the network's logits; 0 takes the likeliest. Default: 1.")
    flags.DEFINE_integer("top_k", None, draw + "Only so many of the likeliest tokens; 0 for all.")
    flags.DEFINE_float("top_p", None, draw + "Only the likeliest tokens that make up this share. Default: 1.")
    flags.DEFINE_float("lambda_freq", None, draw + "Penalty on tokens that occur already (Eq. 23). Default: 0.")
    flags.DEFINE_float("lambda_sem", None, draw + "Penalty on tokens whose neighbours do (Eq. 23). Default: 0.")
    flags.DEFINE_integer("window", None, draw + "Positions of its window; 0 is the whole sequence.")
    settings = [name for name in flags.FLAGS.flag_values_dict() if name not in known]
    known = flags.FLAGS.flag_values_dict()
    flags.DEFINE_float("rho", None, "[blockwise] Weight of confidence in Eq. 121. Default: 1.")
    flags.DEFINE_float("freeze", None, "[blockwise] Confidence above which a token stays. Default: 1, none.")
    flags.DEFINE_float("eta", None, "[remdm_cap, _rescale, _loop] Chance of masking anew.")
    flags.DEFINE_float("t_on", None, "[remdm_loop] Time at which the loop starts.")
    flags.DEFINE_float("t_off", None, "[remdm_loop] Time at which it ends.")
    flags.DEFINE_float("alpha_on", None, "[remdm_loop] Share of the text written while it loops.")
    flags.DEFINE_integer("corrections", None, "[gidd_correct] Evaluations after the steps. Default: 64.")
    flags.DEFINE_float("correct_temperature", None, "[gidd_correct] Their temperature. Default: 0.1.")
    flags.DEFINE_float("correct_time", None, "[gidd_correct] Time that the network is told. Default: 0.01.")
    flags.DEFINE_integer("patience", None, "[gidd_correct] Corrections without gain before it stops. Default: 32.")
    flags.DEFINE_integer("at_once", None, "[gidd_correct] Positions changed by one. Default: 1.")
    return settings, [name for name in flags.FLAGS.flag_values_dict() if name not in known]


if __name__ == "__main__":
    SETTINGS, OPTIONS = _define_flags()
    cli.run(lambda: main(flags.FLAGS), required=["workdir"])
