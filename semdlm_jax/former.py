"""Former names: what keys of a configuration were called and meant in runs that earlier versions recorded, and what
methods and arguments that users write were called."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from semdlm_jax.errors import UserError
from semdlm_jax.options import shown

F = TypeVar("F", bound=Callable)
TABLE_MADE = "table_made"  # the section of a record that says how its neighbor table was made
# former key -> its name today, in a configuration and in what is recorded beside it
RENAMED = {
    "data.normalise": "data.normalize",
    "kernel.least": "kernel.min_count",
    "kernel.tau": "kernel.prior_exponent",
    "objective.parameterisation": "objective.parameterization",
    "semantics.centre": "semantics.center",
    "semantics.neighbours": "semantics.neighbors",
    "table_made.centre": "table_made.center",
    "table_made.neighbours": "table_made.neighbors",
    "trained_on.neighbour table": "trained_on.neighbor table",
}
# The value that describes what runs did before the key existed. Whoever adds a key adds its value here.
EARLIER = {
    "warmup.steps": 0,
    "warmup.kernel": "absorbing",
    "warmup.objective": "nelbo",
    "data.protocol": "packed",
    "data.tokenizer": "sentencepiece",
    "data.train": "",
    "data.valid": "",
    "data.test": "",
    "data.field": "text",
    "data.byte_fallback": False,
    "data.normalize": True,
    "semantics.table": "",
    "semantics.embeddings": "ppmi",
    "semantics.center": True,
    "semantics.remove_components": -1,
    "semantics.hubness": "cap",
    "semantics.characters": "auto",
    "semantics.separate_continuations": False,
    "semantics.prior_tokens": "words",
    # No kernel read partitions then: today's defaults, so that a run goes on with its configuration.
    "semantics.blocks": "256,64,16",
    "semantics.partition": "kmeans",
    "kernel.prior": "uniform",
    "kernel.prior_exponent": 1.0,
    "kernel.min_count": 1,
    "kernel.uniform_share": 0.1,
    "kernel.hybrid_gamma": 1.0,
    "kernel.tau_min": 0.05,
    "kernel.tau_scale": 0.1,
    "kernel.frequency_powers": "",
    "kernel.blocks": "64",
    "kernel.resampled": -1,
    "kernel.path": "direct",
    "kernel.powers": "",
    "kernel.speeds": "",
    "kernel.schedule.name": "linear",
    "kernel.schedule.eps": 1e-3,
    "kernel.schedule.sigma_min": 1e-4,
    "kernel.schedule.sigma_max": 20.0,
    "kernel.schedule.power": 2.0,
    "objective.time_power": 1.0,
    "objective.timesteps": 1000,
    "objective.ce_weight": 0.0,
    "objective.gidd_weights": "dynamic",
    "objective.y_samples": 0,
    "objective.noise_power": 0.0,
    "objective.max_weight": 0.0,
    "objective.clean_rows": 0.0,
    "objective.clean_layout": "mixed",
    "network.causal": False,
    "network.unroll": 1,
    "network.attention": "auto",
    "network.clean_mark": False,
    "evaluation.draws": 1,
    "evaluation.t_min": 1e-3,
    "evaluation.t_max": 1.0 - 1e-5,
    "evaluation.temperature": 1.0,
}


def rename(section: str, settings: dict) -> dict:
    """The settings of one section under their current names, in the same order."""
    renamed = {name: RENAMED.get(f"{section}.{name}", f"{section}.{name}") for name in settings}
    return {renamed[name].rpartition(".")[2]: value for name, value in settings.items()}


def renamed(key: str) -> str:
    """'it is called … now', of a key that had another name; '' of others."""
    return f"it is called {RENAMED[key]} now" if key in RENAMED else ""


def renamed_argument(name: str, known: Iterable[str], more: Mapping[str, str] = {}) -> str:
    """`renamed` of an argument in Python: 'it is called … now' where its name today is among `known`; '' of others.

    Args:
        name: that was given.
        known: the names today.
        more: {former name: name today} beside the keys of a configuration.
    """
    keys = {former.rpartition(".")[2]: key.rpartition(".")[2] for former, key in RENAMED.items()}
    today = {**keys, **more}.get(name, "")
    return f"it is called {today} now" if today in known else ""


def check_arguments(what: str, given: Iterable[str], known: Iterable[str], more: Mapping[str, str] = {}) -> None:
    """FormerArgumentError where one of the given arguments has its former name. what: is called. Else as
    `renamed_argument`."""
    known = list(known)
    for name in given:
        if name not in known and (told := renamed_argument(name, known, more)):
            raise FormerArgumentError(f"{what} has no argument {name!r}: {told}")


def tells_renamed(**more: str) -> Callable[[F], F]:
    """For a function: whoever gives an argument by its former name is told its name today. more: as
    `renamed_argument`."""

    def decorate(function):
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def told(*given, **named):
            check_arguments(function.__qualname__.removesuffix(".__new__"), named, known, more)
            return function(*given, **named)

        return cast(F, told)

    return decorate


def upgrade_config(recorded: dict) -> dict:
    """A copy of a recorded configuration in the form of this version.

    Keys have their current names. A key that is newer than the record gets its value of EARLIER.

    Raises:
        UserError: an entry that must be a section is not one.
    """
    config = copy.deepcopy(recorded)
    for section, settings in config.items():
        if isinstance(settings, dict):
            config[section] = rename(section, settings)
    for key, meaning in EARLIER.items():
        *sections, name = key.split(".")
        section = config
        for one in sections:
            section = section.setdefault(one, {})
            if not isinstance(section, dict):
                raise UserError(f"{one} is {shown(section)}, not a section")
        section.setdefault(name, copy.deepcopy(meaning))
    return config


class FormerNameError(UserError, AttributeError):
    """A method is defined or called by a name that it no longer has."""


class FormerArgumentError(UserError, TypeError):
    """An argument is given by a name that it no longer has."""


class RenamedMethods:
    """Base of a class that users extend or call, some of whose methods had other names.

    FORMER: {former name: name today}. FormerNameError where a subclass defines a method by its former name, or where an
    instance is asked for one.
    """

    FORMER = {}

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for name in cls.FORMER.keys() & {name for one in cls.__mro__ for name in vars(one)}:
            raise FormerNameError(f"{cls.__name__}.{name} is called {cls.FORMER[name]} now: rename the method")

    if not TYPE_CHECKING:  # a type checker would take it for a promise of any attribute

        def __getattr__(self, name):
            kind = type(self)
            if name in kind.FORMER:
                raise FormerNameError(f"{kind.__name__}.{name} is called {kind.FORMER[name]} now: rename the call")
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")


def renamed_fields(**former: str) -> Callable[[Any], Any]:
    """For a NamedTuple whose fields had other names, {former name: name today}: FormerArgumentError where one is given
    by its former name, FormerNameError where one is read by it."""

    def decorate(kind):
        kind.FORMER, kind.__new__ = former, tells_renamed(**former)(kind.__new__)
        kind.__getattr__ = vars(RenamedMethods)["__getattr__"]
        return kind

    return decorate
