"""Checks of a run before it begins: values of its configuration, unused keys, and paths."""

import dataclasses
import math
import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

from semdlm_jax import keys
from semdlm_jax.data.given import check_sources
from semdlm_jax.errors import UserError
from semdlm_jax.objectives import AUTOREGRESSIVE
from semdlm_jax.options import flatten, nest
from semdlm_jax.plugins import Registry, is_imported
from semdlm_jax.record import CONFIG, HISTORY, PLACES
from semdlm_jax.remote import is_address, local
from semdlm_jax.semantics.settings import from_config

PATHS = ("data.directory", "semantics.table")


def check_config(config: Any) -> None:
    """UserError for an unknown key, an impossible value, or values that exclude one another."""
    keys.check_config(config, needs=keys.SECTIONS)
    check_sources(config.data)
    _check_marks(config)
    evaluation, length = config.evaluation, config.data.length
    if not evaluation.t_min < evaluation.t_max:
        raise UserError(
            f"evaluation.t_min = {evaluation.t_min} and evaluation.t_max = {evaluation.t_max} "
            "must satisfy t_min < t_max"
        )
    if length % evaluation.strides or evaluation.sample_steps < evaluation.strides:
        raise UserError(
            f"evaluation.strides = {evaluation.strides} must divide data.length = {length} "
            f"and not exceed evaluation.sample_steps = {evaluation.sample_steps}"
        )


def _check_marks(config):
    """UserError unless clean positions are trained and marked, or neither."""
    rows, mark = config.objective.clean_rows, config.network.clean_mark
    shown = f"objective.clean_rows = {rows} and network.clean_mark = {mark}"
    if config.objective.name == AUTOREGRESSIVE and (rows or mark):
        raise UserError(f"{shown}: an autoregressive network reads no noise: set clean_rows = 0 and clean_mark = False")
    if bool(rows) != mark:
        raise UserError(
            f"{shown}: clean tokens are for a network that marks them, and it learns its mark from them: give "
            "clean_rows above 0 and clean_mark = True, or 0 and False"
        )


def check_recorded(config: Any, workdir: str | os.PathLike, *, trust_code: bool = False) -> None:
    """Checks a recorded configuration before anything is built from it.

    Args:
        config: as `record.read_config` gives it.
        workdir: where it was recorded.
        trust_code: import the modules of the author's own plug-ins, which runs their code. Otherwise only modules that
            this process has already imported are accepted, because a run may come from anyone.

    Raises:
        UserError: keys are missing or unknown, a value is impossible, or a plug-in's module may not be imported.
    """
    flat, path = flatten(config), pathlib.Path(workdir) / CONFIG
    for key, option in keys.KEYS.items():
        if key not in flat:
            raise UserError(f"{path} lacks {key}, so it is no run's: restore it")
        option.check(f"{path}: {key}", flat[key])
    for choice in keys.CHOICES:
        name, registry = flat[choice.key], choice.registry
        if registry.is_users(name) and not (choice.to_prepare or trust_code or is_imported(name)):
            raise UserError(
                f"this run's {registry.kind} {name!r} is code of whoever trained it: give --trust_code (in Python "
                f"trust_code=True) to run it, or import {name.partition(':')[0]} first"
            )
    own = keys.users_options(config, recorded=True)  # a missing plug-in is reported before anything is read
    unread = [choice for choice in keys.CHOICES if choice.to_prepare]
    for key in flat.keys() - keys.KEYS.keys() - own.keys():
        if key.partition(".")[0] in keys.SECTIONS and not keys.may_be_users(flat, key, unread):
            raise UserError(
                f"{path} has a key {key!r}, which no run has: restore it ({keys.nearest_key(key, keys.KEYS)})"
            )


def check_workdir(workdir: str | os.PathLike, *, written: bool = False, flag: str = "workdir") -> None:
    """Checks the path of a directory that may not exist yet.

    Args:
        workdir: the path.
        written: whether files must be writable in it.
        flag: that gave the path, for messages.

    Raises:
        UserError: there can be no directory at this path, or no file can be written in it.
    """
    path = pathlib.Path(workdir)
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        what = "is a file" if there == path else f"lies below {there}, which is a file"
        raise UserError(f"--{flag}={workdir} {what}: give a directory")
    if written:
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise UserError(
                f"--{flag}={workdir}: nothing can be written in {there} ({error.strerror}): give another directory"
            ) from None


def unread(config: Any) -> list[str]:
    """The keys that the chosen kernel, loss, optimizer and so on do not read."""
    flat, sections = flatten(config), {choice.section for choice in keys.CHOICES}
    chosen, chain = _chosen(config), config.objective.name == AUTOREGRESSIVE
    read = {key: option for name in chosen for key, option in _options(*name)}
    found = []
    for key in flat:
        section, _, name = key.rpartition(".")
        if key in keys.CORE_KEYS or section == "semantics":
            before = section == "warmup" and name != "steps" and not config.warmup.steps
            chain_rule = chain and (section == "kernel.schedule" or key == "objective.parameterization")
            unused = before or chain_rule or not keys.KEYS[key].is_read(lambda other: _in_use(config, other))
        elif section == "objective" and name in keys.OF_OBJECTIVE:
            without = name == "clean_layout" and not config.objective.clean_rows
            unused = without or (chain and name != "chunk")
        else:
            option = read.get(key)
            unused = section in sections and not (option and option.is_read(lambda other: _in_use(config, other)))
        if unused:
            found.append(key)
    return found


def chosen(config: Any, registry: Registry) -> list[str]:
    """The names of the plug-ins of one kind that the configuration uses."""
    return [name for choice, name in _chosen(config) if choice.registry is registry]


def _chosen(config):
    """[(Choice, name)] of the plug-ins that the configuration uses."""
    warmup, chain = bool(config.warmup.steps), config.objective.name == AUTOREGRESSIVE
    flat, found = flatten(config), []
    for choice in keys.CHOICES:
        first, _, rest = choice.key.partition(".")
        used = warmup if first == "warmup" else first in ("data", "optimizer") or not chain
        if used:
            found.append((choice, flat[choice.key] or flat["data.train"]))  # no other is empty than data.corpus
    return found


def _options(choice, name):
    """[(key, Option)] of a plug-in."""
    return [(f"{choice.section}.{key}", option) for key, option in choice.registry.options(name).items()]


def tell_unread(config: Any, given: Iterable[str], file_config: Any = None) -> str:
    """A note on keys that were set but have no effect.

    Args:
        config: of the run.
        given: the keys of the command line.
        file_config: the configuration file's own configuration, if no system is named: its changed but unused keys are
            reported too. With a system they are not, because a file's keys serve all its systems.

    Returns:
        One line; '' if there are no such keys.
    """
    names = [key for key in unread(config) if key in given]
    if file_config is not None:
        flat = flatten(file_config)
        names += [key for key in unread(file_config) if key in keys.KEYS and flat[key] != keys.KEYS[key].default]
    flat = flatten(config)
    shown = ", ".join(f"{key} = {flat[key]!r}" for key in dict.fromkeys(names))
    return f"note: nothing reads {shown} under what else is chosen here" if shown else ""


def tell_table(config: Any, given: Iterable[str], made: dict) -> str:
    """A note on keys of the command line that differ from how the neighbor table was built.

    Args:
        config: of the run.
        given: the keys of the command line.
        made: the table's own record of how it was built.

    Returns:
        One line; '' if nothing differs.
    """
    wanted = dataclasses.asdict(from_config(config.semantics))
    wanted["remove_components"] = from_config(config.semantics).components
    names = [key.rpartition(".")[2] for key in given if key.startswith("semantics.")]
    other = [name for name in names if name in made and made[name] != wanted.get(name)]
    shown = ", ".join(f"semantics.{name} = {wanted[name]!r} (it has {made[name]!r})" for name in other)
    return (
        f"note: the neighbor table was built with other settings: {shown}: build it again to change that"
        if shown
        else ""
    )


def fit_warmup(config: Any, given: dict, recorded: dict | None = None) -> str:
    """Shortens warm-ups, in place, if the command line asks for fewer steps than the configuration file has.

    A warm-up or first stage that would take more than half of the steps is shortened in proportion, and a decay to the
    steps that are left.

    Args:
        config: of the run, changed in place.
        given: {key: the file's value} of the command line; these keys are not changed.
        recorded: the record of a run that has already started: its values are kept.

    Returns:
        One line on what was changed; '' if nothing was.
    """
    before = given.get("training.steps", config.training.steps)
    then = flatten(recorded or {})
    history = (recorded or {}).get(HISTORY) or [{"was": then.get("training.steps", config.training.steps)}]
    steps = history[0].get("was") if isinstance(history[0], dict) else None
    if not (isinstance(steps, int) and 0 < steps < before):  # a damaged record is reported when it is read
        return ""
    changed = {}
    for key in ("optimizer.warmup_steps", "warmup.steps"):
        section, name = key.split(".")
        value = config[section][name]
        if key not in given and 2 * value > steps and then.get(key) != value:
            changed[key] = config[section][name] = min(math.ceil(value * steps / before), steps - 1)
    room, fraction = 1 - config.optimizer.warmup_steps / steps, config.optimizer.get("decay_fraction", 0)
    decays = config.optimizer.schedule == "wsd" and "optimizer.decay_fraction" not in given
    if decays and fraction > room > 0 and then.get("optimizer.decay_fraction") != fraction:
        changed["optimizer.decay_fraction"] = config.optimizer.decay_fraction = room
    shown = ", ".join(f"{key} = {value:g}" for key, value in changed.items())
    if not shown:
        return ""
    if recorded is None:
        return f"note: with training.steps = {steps} instead of {before}: {shown}"
    return f"note: as at the first start of this run, with training.steps = {steps} instead of {before}: {shown}"


def tell_stages(config: Any, done: int = 0) -> str:
    """A line on which kernel trains until which step; '' if only one kernel trains from step `done` on."""
    warmup = config.warmup
    if warmup.steps <= done:
        return ""
    what = "masked text" if warmup.kernel == "absorbing" else "another kernel"
    return (
        f"{what} until step {warmup.steps} (kernel {warmup.kernel}, loss {warmup.objective}), then kernel "
        f"{config.kernel.name}, loss {config.objective.name}: losses before and after are not comparable"
    )


def places(config: Any) -> dict:
    """{section: {key: absolute path}} of what a run reads, so that it is found from another directory."""
    flat = flatten(config)
    return nest(
        {key: path if is_address(path := flat[key]) else os.path.abspath(path) for key in PATHS if flat.get(key)}
    )


def find_data(config: Any, recorded: Any, data_directory: str | None = None) -> None:
    """Sets the paths of a recorded run's data, in place.

    Args:
        config: of this start, changed in place.
        recorded: the record, with the absolute paths of the first start, used if a relative path does not exist here.
        data_directory: where the prepared data are now; None if they were not moved.

    Raises:
        UserError: there is no such directory, nor one where the data were.
    """
    here, there = flatten(config), flatten(recorded)
    for key in PATHS:
        section, name = key.split(".")
        path, absolute = here.get(key), there.get(f"{PLACES}.{key}")
        if key == "data.directory" and data_directory is not None:
            config[section][name] = data_directory
        elif path and path == there.get(key) and isinstance(absolute, str) and not os.path.exists(path):
            config[section][name] = absolute
    if config.data.corpus != "synthetic" and not os.path.isdir(local(config.data.directory)):
        raise UserError(
            f"{config.data.directory}: no prepared data there: say where this run's data are now with "
            "--data_directory (in Python data_directory=…), or prepare them there again"
        )


def _in_use(config, key):
    """The plug-ins chosen by a key of the configuration; for the loss and the kernel those of the warm-up too."""
    chosen = [flatten(config)[key]]
    if config.warmup.steps and key in ("objective.name", "kernel.name"):
        chosen.append(config.warmup["objective" if key == "objective.name" else "kernel"])
    return chosen
