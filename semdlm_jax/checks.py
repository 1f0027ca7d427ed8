"""What is checked of a run before it begins: the values of its configuration, what reads them, and its places."""

import dataclasses
import math
import os
import pathlib
import tempfile

from semdlm_jax import keys
from semdlm_jax.data.given import check_sources
from semdlm_jax.errors import UserError
from semdlm_jax.objectives import AUTOREGRESSIVE
from semdlm_jax.options import flatten, nest
from semdlm_jax.plugins import is_imported
from semdlm_jax.record import CONFIG, HISTORY, PLACES
from semdlm_jax.semantics.settings import from_config

PATHS = ("data.directory", "semantics.table")


def check_config(config):
    """UserError for a key that nothing knows, values that no run can have, or that exclude one another."""
    keys.check_config(config, needs=keys.SECTIONS)
    check_sources(config.data)
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


def check_recorded(config, workdir: str | os.PathLike, *, trust_code: bool = False):
    """UserError where what `workdir` has recorded is no configuration, for values in it that no run can have, and for a
    plug-in of its author's own.

    config: as read, so in today's shape.
    A run may come from elsewhere, and importing the module of its plug-in runs that module's code: only trust_code
    does so where this process has not imported it already.
    """
    flat, path = flatten(config), pathlib.Path(workdir) / CONFIG
    for key, option in keys.KEYS.items():
        if key not in flat:
            raise UserError(f"{path} lacks {key}, so it is no run's: restore it")
        option.check(f"{path}: {key}", flat[key])
    for key, _, registry in keys.CHOICES:
        if not (trust_code or is_imported(name := flat[key])):
            raise UserError(
                f"this run's {registry.kind} {name!r} is code of whoever trained it: give --trust_code to run it, "
                f"or import {name.partition(':')[0]} first"
            )
    own = keys.users_options(config)  # told before anything is read
    for key in flat.keys() - keys.KEYS.keys() - own.keys():
        if key.partition(".")[0] in keys.SECTIONS:
            raise UserError(
                f"{path} has a key {key!r}, which no run has: restore it ({keys.nearest_key(key, keys.KEYS)})"
            )


def check_workdir(workdir: str | os.PathLike, *, written: bool = False, flag: str = "workdir"):
    """UserError unless there can be a directory at this path; written: and unless files can be made in it."""
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


def unread(config) -> list[str]:
    """The keys that nothing reads under the names chosen in the configuration."""
    flat, sections = flatten(config), {choice.section for choice in keys.CHOICES}
    chosen, chain = _chosen(config), config.objective.name == AUTOREGRESSIVE
    read = {key: option for name in chosen for key, option in _options(*name)}
    found = []
    for key in flat:
        section, _, name = key.rpartition(".")
        if key in keys.OWN_KEYS or section == "semantics":
            before = section == "warmup" and name != "steps" and not config.warmup.steps
            chain_rule = chain and (section == "kernel.schedule" or key == "objective.parameterization")
            unused = before or chain_rule or not keys.KEYS[key].is_read(lambda other: _in_use(config, other))
        elif section == "objective" and name in keys.OF_OBJECTIVE:
            unused = chain and name != "chunk"
        else:
            option = read.get(key)
            unused = section in sections and not (option and option.is_read(lambda other: _in_use(config, other)))
        if unused:
            found.append(key)
    return found


def _chosen(config):
    """[(Choice, name)] of the plug-ins that are used."""
    warmup, chain = bool(config.warmup.steps), config.objective.name == AUTOREGRESSIVE
    flat, found = flatten(config), []
    for choice in keys.CHOICES:
        first, _, rest = choice.key.partition(".")
        used = warmup if first == "warmup" else first == "optimizer" or not chain
        if used:
            found.append((choice, flat[choice.key]))
    return found


def _options(choice, name):
    """(key, Option) of a plug-in."""
    return [(f"{choice.section}.{key}", option) for key, option in choice.registry.options(name).items()]


def tell_unread(config, given, file_config=None) -> str:
    """A line on keys that were set and change nothing, '' where there are none.

    given: the keys of the command line. file_config: the configuration file's own, where it names no system: what one
    sets beyond the defaults, and does not read, is told too. A file's keys serve all its systems, so those are not.
    """
    names = [key for key in unread(config) if key in given]
    if file_config is not None:
        flat = flatten(file_config)
        names += [key for key in unread(file_config) if key in keys.KEYS and flat[key] != keys.KEYS[key].default]
    flat = flatten(config)
    shown = ", ".join(f"{key} = {flat[key]!r}" for key in dict.fromkeys(names))
    return f"note: nothing reads {shown} under what else is chosen here" if shown else ""


def tell_table(config, given, made: dict) -> str:
    """A line on keys of how a table is built that were set and are not how it was built, '' where there are none.

    made: the table's own record.
    """
    wanted = dataclasses.asdict(from_config(config.semantics))
    wanted["remove_components"] = from_config(config.semantics).components
    names = [key.rpartition(".")[2] for key in given if key.startswith("semantics.")]
    other = [name for name in names if name in made and made[name] != wanted.get(name)]
    shown = ", ".join(f"semantics.{name} = {wanted[name]!r} (it has {made[name]!r})" for name in other)
    return f"note: the neighbor table was built otherwise: {shown}: build it anew to change that" if shown else ""


def fit_warmup(config, given: dict, recorded: dict | None = None) -> str:
    """Shrinks what takes more than half of the steps, where they are fewer than the configuration file has, in place;
    the line that says so, or ''. given: {key: the file's value} of the command line, whose keys stay as they are.
    recorded: the record of the run, where it has begun: what fitted then stays."""
    before = given.get("training.steps", config.training.steps)
    then = flatten(recorded or {})
    history = (recorded or {}).get(HISTORY) or [{"was": then.get("training.steps", config.training.steps)}]
    steps = history[0].get("was") if isinstance(history[0], dict) else None
    if not (isinstance(steps, int) and 0 < steps < before):  # a damaged record is told when it is read
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
    return f"note: with training.steps = {steps} instead of {before}: {shown}" if shown else ""


def tell_stages(config, done: int = 0) -> str:
    """A line on what trains until when, '' where one kernel does all that is left. done: steps so far."""
    warmup = config.warmup
    if warmup.steps <= done:
        return ""
    what = "masked text" if warmup.kernel == "absorbing" else "another kernel"
    return (
        f"{what} until step {warmup.steps} (kernel {warmup.kernel}, loss {warmup.objective}), then kernel "
        f"{config.kernel.name}, loss {config.objective.name}: losses before and after do not compare"
    )


def places(config) -> dict:
    """{section: {key: absolute path}} of what a run reads, to be found from another directory."""
    flat = flatten(config)
    return nest({key: os.path.abspath(flat[key]) for key in PATHS if flat.get(key)})


def find_data(config, recorded, data_directory: str | None = None):
    """Points the configuration of a recorded run to its data, in place: to `data_directory`, or to the place recorded
    at the first start where the path it was given then leads nowhere from here."""
    here, there = flatten(config), flatten(recorded)
    for key in PATHS:
        section, name = key.split(".")
        path, absolute = here.get(key), there.get(f"{PLACES}.{key}")
        if key == "data.directory" and data_directory is not None:
            config[section][name] = data_directory
        elif path and path == there.get(key) and isinstance(absolute, str) and not os.path.exists(path):
            config[section][name] = absolute


def _in_use(config, key):
    """The names used under a key of the configuration: under that of the loss, the warm-up's too."""
    chosen = [flatten(config)[key]]
    if config.warmup.steps and key in ("objective.name", "kernel.name"):
        chosen.append(config.warmup["objective" if key == "objective.name" else "kernel"])
    return chosen
