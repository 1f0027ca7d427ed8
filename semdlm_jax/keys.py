"""Every option there is: the keys of a configuration, how text is sampled, and the flags of the entry points.

Each line has the default, the range and the meaning of an option; `options` checks values. The options of plug-ins are
the fields of their classes. Ranges are wider than anyone needs, but no value in them overflows. Conditions between keys
(t_min < t_max) are checked where the keys are used.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from semdlm_jax.core_keys import CORE_KEYS, COUNT, MANY, SEED
from semdlm_jax.data.corpora import CORPORA
from semdlm_jax.data.tokenizers import TOKENIZERS
from semdlm_jax.errors import UserError
from semdlm_jax.former import renamed
from semdlm_jax.kernels import KERNELS, SCHEDULES
from semdlm_jax.objectives import AUTOREGRESSIVE, LOSSES, PARAMETERIZATIONS, Objective
from semdlm_jax.options import Option, flatten, nearest_key, number, shown, text
from semdlm_jax.plugins import Registry, options_of
from semdlm_jax.runtime.optimizer import LEARNING_RATES, OPTIMIZERS
from semdlm_jax.samplers import METHODS
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.semantics.settings import TableSettings

BEGIN = "begin with semdlm_jax.experiment.defaults.get_config() and change keys of it"

OBJECTIVES = (*LOSSES, AUTOREGRESSIVE)


class Choice(NamedTuple):
    """Where a configuration names a plug-in.

    Attributes:
        key: the key whose value is the name.
        section: the section that has the options.
        registry: of its kind.
        to_prepare: only the preparation of data reads it, so that a recorded run can be used without it.
    """

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
    """CORE_KEYS, each name of a plug-in followed by the options of its kind."""
    sections = {choice.key: choice for choice in CHOICES if not choice.key.startswith("warmup.")}
    for key, option in CORE_KEYS.items():
        yield key, option
        if choice := sections.get(key):
            found = {f"{choice.section}.{name}": option for name, option in _options(choice.registry).items()}
            yield from ((name, option) for name, option in found.items() if name not in CORE_KEYS)
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
        name: text(None, meaning, path="folder", filled=True)
        for name, meaning in {
            "workdir": "the directory of a run",
            "model": "the name or the folder of a portable model",
            "data_directory": "the directory of the prepared data",
            "init_from": "the directory of a run",
        }.items()
    },
    **{
        name: text(None, meaning, path="whole", filled=True)
        for name, meaning in {
            "output": "the path of a file",
            "trace": "the path of a page",
            "plots": "the path of a folder",
            "text": "the path of a text file",
            "prompts": "the path of a file of prompts",
            "source": "the path of a folder or archive",
        }.items()
    },
    "scorer": text(None, "a scorer of text", filled=True),
    "embedder": text(None, "a model of sentences", filled=True),
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
    "beside": text(None, "names of kernels, with commas"),
    "times": number(None, "[1, 256]", "times of a quadrature over [0, 1]", kind=int),
    "states": number(None, "[2, 1000000]", "noisy states that are looked at", kind=int),
    "epsilon": number(None, "(0, 1)", "least probability of the effective support", kind=float),
    "stop_status": number(None, "[0, 255]", "exit status of a training that was stopped on request", kind=int),
    "fsdp": number(None, "[-1, 65536]", "devices that share the weights", kind=int),
    "tensor": number(None, "[-1, 65536]", "devices that share each matrix", kind=int),
    "workers": number(None, "[1, 1024]", "processes that encode text", kind=int),
    "beam_options": text(None, "options of Apache Beam", filled=True),
    "coordinator_address": text(None, "host:port of the first of several processes", filled=True),
    "num_processes": number(None, COUNT, "how many processes there are", kind=int),
    "process_id": number(None, MANY, "which of the processes this is, from 0", kind=int),
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
            KEYS[key].check(key, name)
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
            raise UserError(f"config has no key {key!r}: {renamed(key) or nearest_key(key, [*KEYS, *own])}")
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
    known = KEYS | users_options(config)
    for key, value in flatten(config).items():
        if key in known and (expanded := known[key].expanded(value)) != value:
            section, _, name = key.rpartition(".")
            (config[section] if section else config)[name] = expanded
