"""Every option there is: the keys of a configuration, how text is sampled, and the flags of the entry points.

A line says the default, what is possible and what it means; `options` checks. The options of plug-ins are the fields of
their classes. The limits are far from what anyone needs, and short of what overflows. What holds between keys
(t_min < t_max) is checked where they are used.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from semdlm_jax.data.corpora import CORPORA, VOCAB_SIZE
from semdlm_jax.data.tokenizers import TOKENIZERS
from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, SCHEDULES
from semdlm_jax.objectives import AUTOREGRESSIVE, LOSSES, PARAMETERIZATIONS, Objective
from semdlm_jax.options import Option, flatten, nearest_key, number, shown, switch, text
from semdlm_jax.plugins import Registry, options_of
from semdlm_jax.runtime.optimizer import LEARNING_RATES, OPTIMIZERS
from semdlm_jax.samplers import METHODS
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.semantics.settings import TableSettings

BEGIN = "begin with semdlm_jax.experiment.defaults.get_config() and change keys of it"

COUNT, MANY = "[1, 1000000]", "[0, 1000000]"
TOKENS, CHUNK = "[1, 1048576]", "[0, 1048576]"
SEED = "[0, 4294967295]"
SHARE, BELOW_ONE = "[0, 1]", "[0, 1)"
TIME, LAST_TIME = "[1e-9, 1)", "(0, 1]"

OBJECTIVES = (*LOSSES, AUTOREGRESSIVE)


class Choice(NamedTuple):
    """Where a configuration names a plug-in: its key, and the section that has the options. to_prepare: only the
    preparation of data reads it, so a recorded run is used without it."""

    key: str
    section: str
    registry: Registry
    to_prepare: bool = False


CHOICES = (
    Choice("data.corpus", "data", CORPORA, to_prepare=True),
    Choice("data.tokenizer", "data", TOKENIZERS),
    Choice("kernel.name", "kernel", KERNELS),
    Choice("kernel.schedule.name", "kernel.schedule", SCHEDULES),
    Choice("objective.name", "objective", LOSSES),
    Choice("objective.parameterization", "objective", PARAMETERIZATIONS),
    Choice("optimizer.name", "optimizer", OPTIMIZERS),
    Choice("optimizer.schedule", "optimizer", LEARNING_RATES),
    # Their options are those of the main stage.
    Choice("warmup.kernel", "kernel", KERNELS),
    Choice("warmup.objective", "objective", LOSSES),
)

# What a run reads beside the options of plug-ins, by dotted key.
OWN_KEYS: dict[str, Option] = {
    "seed": number(0, SEED, "of all randomness of a run"),
    "data.corpus": text(
        "sotu",
        "is cut into its splits: sotu; text:GLOB or text:FOLDER of .txt (a document each), .jsonl, .parquet, .csv or "
        ".tsv; lines:GLOB, a document a line; tfds:NAME, prepared as array_record; synthetic (random tokens, for tests "
        "and speed); '' where data.train is given",
        "data.corpora:CORPORA",
        own=True,
        path="after",
    ),
    "data.train": text("", "instead of data.corpus, files of the train split: text:… or lines:…", path="after"),
    "data.valid": text("", "and of the valid split; '': drawn from train's documents", path="after"),
    "data.test": text("", "and of the test split; '': drawn from train's documents", path="after"),
    "data.directory": text(
        "data/sotu", "where data.prepare and semantics.build write, and training reads", path="whole", filled=True
    ),
    "data.tokenizer": text(
        "sentencepiece",
        "sentencepiece and characters (the alphabet of the training text) are learnt; bytes; tokenizer:PATH of a "
        "tokenizer.json, hf:NAME (a model's directory, or in the local cache), sentencepiece:PATH, bert-base-uncased, "
        "wordpiece:PATH/vocab.txt",
        "data.tokenizers:TOKENIZERS",
        own=True,
        path="after",
        filled=True,
    ),
    # Configurations set it for what a command line may name instead, as data.corpus=synthetic: never told as unread.
    "data.vocab_size": dataclasses.replace(VOCAB_SIZE, only=""),
    "data.length": number(128, TOKENS, "L: tokens a sequence"),
    "data.protocol": text("packed", "how documents become rows", "data.protocols:PROTOCOLS"),
    "semantics.table": text(
        "", ".npz file that semantics.build writes and training reads; '': in data.directory", path="whole"
    ),
    "kernel.name": text(
        "semdlm_plus", "it reads those of the options below that it knows", "kernels:KERNELS", own=True
    ),
    "kernel.k_max": number(16, "[1, 65536]", "K: the largest neighborhood"),
    "kernel.schedule.name": text(
        "linear", "it reads those of the options below that it knows", "kernels:SCHEDULES", own=True
    ),
    "objective.name": text("denoising", "a loss, or autoregressive", "keys:OBJECTIVES", own=True),
    "objective.parameterization": text("bayes", "how logits are read", "objectives:PARAMETERIZATIONS", own=True),
    "warmup.steps": number(
        0, "[0, 1000000000]", "first steps under another kernel and loss; needs the parameterization bayes"
    ),
    "warmup.kernel": text("absorbing", "of those steps", "kernels:KERNELS", own=True),
    "warmup.objective": text("nelbo", "of those steps", "objectives:LOSSES", own=True),
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
    "optimizer.name": text("adamw", "adamw or muon", "runtime.optimizer:OPTIMIZERS", own=True),
    "optimizer.schedule": text(
        "constant", "of the learning rate; wsd: warm-up, stable, decay", "runtime.optimizer:LEARNING_RATES", own=True
    ),
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


def _options(registry: Mapping[str, type]) -> dict[str, Option]:
    """The options of all plug-ins of a kind; of one that not all have, the meaning says which do."""
    found, having = {}, {}
    for name, plugin in registry.items():
        for option_name, option in options_of(plugin).items():
            found.setdefault(option_name, option)
            having.setdefault(option_name, []).append(name)
    shared = {name for name, plugins in having.items() if len(plugins) == len(registry)}
    return {name: o if name in shared else _of(o, having[name]) for name, o in found.items()}


def _of(option, names):
    return dataclasses.replace(option, meaning=f"{option.meaning} ({', '.join(names)})")


def _keys() -> Iterator[tuple[str, Option]]:
    """OWN_KEYS, each name of a plug-in followed by the options of its kind."""
    sections = {choice.key: choice for choice in CHOICES if not choice.key.startswith("warmup.")}
    for key, option in OWN_KEYS.items():
        yield key, option
        if choice := sections.get(key):
            found = {f"{choice.section}.{name}": option for name, option in _options(choice.registry).items()}
            yield from ((name, option) for name, option in found.items() if name not in OWN_KEYS)
        for name, more in OF_SECTION.get(key, {}).items():
            yield f"{key.partition('.')[0]}.{name}", more


OF_OBJECTIVE = options_of(Objective)  # of every loss
# What follows a key.
OF_SECTION = {"objective.parameterization": OF_OBJECTIVE, "semantics.table": options_of(TableSettings)}
# What a run reads, by dotted key: experiment/defaults.py is made of it.
KEYS: dict[str, Option] = dict(_keys())
# How text is sampled: flags of generate by the same names.
SAMPLING: dict[str, Option] = options_of(SamplingSettings) | _options(METHODS)
# Keys that exclude one another, and their values where others of them are given on the command line.
ALTERNATIVES = ({"data.corpus": ""}, {"data.train": "", "data.valid": "", "data.test": ""})

# The flags that are neither; None where a flag is not given.
FLAGS: dict[str, Option] = {
    **{
        name: text(None, meaning, path="whole", filled=True)
        for name, meaning in {
            "workdir": "the directory of a run",
            "model": "the name or the folder of a portable model",
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
    "wandb": text(None, "the name of a project", filled=True),
    "checkpoint": text(None, "best, latest or a step", filled=True),
    "license": text(None, "a license's name", filled=True),
    "push_to": text(None, "a model of the Hugging Face Hub, hf:OWNER/NAME", filled=True),
    "seed": number(None, SEED, "of all randomness", kind=int),
    "num_samples": number(None, COUNT, "how many samples, of every prompt", kind=int),
    "batch_size": number(None, COUNT, "samples drawn at once", kind=int),
    "trace_samples": number(None, COUNT, "samples that are replayed", kind=int),
    "samples": number(None, MANY, "samples to generate", kind=int),
    "shown": number(None, COUNT, "neighbors of each word", kind=int),
    "hubs": number(None, MANY, "tokens of largest in-degree", kind=int),
    "tokenizer": KEYS["data.tokenizer"],
    "draws": number(None, COUNT, "times a window is corrupted and scored", kind=int),
}

SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in KEYS))


def check_options(section: str, **values):
    """UserError for a value that its option cannot have. section: of KEYS, or 'flags'."""
    for name, value in values.items():
        (FLAGS[name] if section == "flags" else KEYS[f"{section}.{name}"]).check(name, value)


def users_options(config, sections: Iterable[str] = SECTIONS, *, recorded: bool = False) -> dict[str, Option]:
    """{key: Option} of the plug-ins of the user's own that a configuration names: their modules are imported.

    Args:
      config: nested mappings.
      sections: only those whose options are wanted.
      recorded: the configuration is that of a run, so what only preparation reads is left out.

    Raises:
      UserError: there is no such plug-in, or an option of it has the name of another key.
    """
    flat, found = flatten(config), {}
    for key, section, registry, to_prepare in CHOICES:
        name = flat.get(key)
        wanted = section.partition(".")[0] in sections and not (recorded and to_prepare)
        if wanted and isinstance(name, str) and registry.is_users(name):
            for option_name, option in registry.options(name).items():
                full = f"{section}.{option_name}"
                if not _same_values(option, found.get(full) or KEYS.get(full, option)) or _is_section(full):
                    raise UserError(
                        f"{registry.kind} {name!r} has an option {option_name!r}, but {full} is a key of another "
                        "meaning already: rename the option"
                    )
                found[full] = option
    return {key: option for key, option in found.items() if key not in KEYS}


def _same_values(one, other):
    """Whether two options have the same default and may be the same."""
    return dataclasses.replace(one, meaning="", only="") == dataclasses.replace(other, meaning="", only="")


def _is_section(key):
    return any(known.startswith(f"{key}.") for known in KEYS)


def with_users_options(config, named: Mapping[str, str]):
    """A configuration with the options of the user's own plug-ins, in place: at their defaults where it sets none.

    named: {key: name} of plug-ins that are to be named in it, as on a command line.
    """
    known = flatten(config)
    for key, option in users_options(known | dict(named)).items():
        if key not in known:
            section, _, name = key.rpartition(".")
            here: Any = config
            for one in section.split("."):
                here = here[one]
            with here.unlocked():
                here[name] = option.default
    return config


def check_config(config, needs: Iterable[str] = ()):
    """UserError for a key that nobody knows, or a value that no run can have.

    config: nested mappings. needs: keys that must be there, or sections of them. Names of other keys are not looked up:
    what is not read may come from elsewhere.
    """
    flat, needed = flatten(config), below(needs)
    own = users_options(config, {key.partition(".")[0] for key in needed})
    for key, value in flat.items():
        option = KEYS.get(key) or own.get(key)
        if option is None and _is_section(key):
            raise UserError(f"config.{key} = {shown(value)} stands for a section: {BEGIN}")
        if option is None and not may_be_users(flat, key, [c for c in CHOICES if c.key not in needed]):
            raise UserError(f"config has no key {key!r}: {nearest_key(key, [*KEYS, *own])}")
        if option is not None and (key in needed or not isinstance(option.among, str)):
            option.check(key, value)
    for key in needed:
        if key not in flat:
            raise UserError(f"config lacks the key {key!r}: {BEGIN}")


def may_be_users(flat: Mapping[str, Any], key: str, choices: Iterable[Choice]) -> bool:
    """Whether a key may be an option of a plug-in of the user's own that one of the choices names, not looked up."""
    return any(key.rpartition(".")[0] == c.section and c.registry.is_users(str(flat.get(c.key))) for c in choices)


def below(needs: Iterable[str]) -> list[str]:
    """The keys among `needs`, and those of the sections among them."""
    return [key for key in KEYS if any(f"{key}.".startswith(f"{need}.") for need in needs)]


def expand_paths(config):
    """Replaces ~ and $HOME in the paths of a configuration, in place."""
    for key, value in flatten(config).items():
        if key in KEYS and (expanded := KEYS[key].expanded(value)) != value:
            section, _, name = key.rpartition(".")
            (config[section] if section else config)[name] = expanded
