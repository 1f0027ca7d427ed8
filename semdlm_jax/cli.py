"""What all entry points share: common flags, checks of values before any work, and errors in one sentence."""

import functools
import itertools
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import app, flags, logging

from semdlm_jax import config_flag, keys, models, remote, storage, streams
from semdlm_jax.errors import UserError, did_you_mean, nearest, refuse
from semdlm_jax.help_text import help_text
from semdlm_jax.options import Option, flatten
from semdlm_jax.owned import ownership
from semdlm_jax.runtime import distributed, processes
from semdlm_jax.runtime.compilation import keep_programs
from semdlm_jax.runtime.startup import restore_handlers
from semdlm_jax.storage import PathLike

flags.disclaim_key_flags()  # a flag belongs to the entry point that asks for it: its --help lists it


def define_data_flag(heading: str = "") -> flags.FlagHolder:
    """Defines `--data_directory=DIR`; returns its flag holder."""
    help_text = heading + "Where the prepared data are now, if they were moved."
    return flags.DEFINE_string("data_directory", None, help_text)


def define_process_flags(heading: str = "[several processes] ") -> None:
    """Defines the flags that say which of several processes this one is, see `join_processes`."""
    flags.DEFINE_string("coordinator_address", None, heading + "host:port of the first. Default: as the launcher says.")
    flags.DEFINE_integer("num_processes", None, heading + "How many there are.")
    flags.DEFINE_integer("process_id", None, heading + "Which one this is, from 0.")


def join_processes(stops: bool = False) -> None:
    """Joins the other processes of the run (`distributed.start`), if there are any.

    Raises:
        UserError: they do not find each other, or were given other flags or another configuration.
    """
    distributed.start(stops, {name: flags.FLAGS[name].value for name in distributed.VARIABLES})
    own = {*distributed.VARIABLES, "data_directory"}  # which may lie elsewhere on each host
    given = {
        flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.name not in own
    }
    config = given.pop("config", None)
    configured = {} if config is None else {f"config.{key}": value for key, value in flatten(config).items()}
    processes.check_same({**{f"--{name}": value for name, value in given.items()}, **configured})


def define_load_flags(heading: str = "") -> None:
    """Defines the flags of programs that read a run."""
    flags.DEFINE_string("checkpoint", "best", heading + "Which of its checkpoints: best, latest or a step.")
    define_data_flag(heading)
    trust = "Import the modules of plug-ins that the author of the run wrote; this runs their code."
    flags.DEFINE_bool("trust_code", False, heading + trust)
    flags.DEFINE_alias("trust_kernel", "trust_code")  # its former name, when only kernels could be plug-ins


def define_model_flags(heading: str = "") -> None:
    """Defines the flags of programs that read a trained model: one of MODEL must be given. heading: of the others."""
    known = ", ".join(models.names())
    flags.DEFINE_string("workdir", None, f"the work directory of a training run, or --model={known}")
    flags.DEFINE_string("model", None, f"Instead, a portable model: {known}; a folder of export; hf:OWNER/NAME.")
    define_load_flags(heading)
    flags.DEFINE_integer("fsdp", 1, heading + "Devices that share the weights; -1: all. The others share the batch.")
    flags.DEFINE_integer("tensor", 1, heading + "Devices that share each matrix; -1: all.")


MODEL = ("workdir", "model")  # exactly one of these flags is needed


def find_model(options: Any) -> pathlib.Path:
    """The folder here that --workdir or --model stands for. UserError: both are given, or no such model exists."""
    if options.workdir is not None and options.model is not None:
        raise UserError("--workdir and --model exclude one another: give one of them")
    return remote.local(str(options.workdir), again=True) if options.model is None else models.find(options.model)


def define_option_flag(name: str, option: Option, heading: str, default: str) -> None:
    """Defines a flag whose value is None if it is not given.

    Args:
        name: of the flag.
        option: its type, range and meaning.
        heading: '[…] ', under which --help lists it.
        default: a sentence on what holds if it is not given.
    """
    about = f"{heading}{option.describe()}. {default}."
    if option.kind is str:
        flags.DEFINE_string(name, None, about)
    else:
        define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}[option.kind]
        define(name, None, about)


def load_options(options: Any) -> dict:
    """The values of `define_load_flags`, as keyword arguments of experiment.load.load_trained, and of the mesh if there
    are its flags."""
    which = options.checkpoint
    if which not in ("best", "latest") and not which.isdecimal():
        raise UserError(f"--checkpoint={which} is not a checkpoint: give best, latest or a step")
    return {
        "checkpoint": int(which) if which.isdecimal() else which,
        "data_directory": options.data_directory,
        "trust_code": options.trust_code,
        **{axis: flags.FLAGS[axis].value for axis in ("fsdp", "tensor") if axis in flags.FLAGS},
    }


def check_output(path: PathLike | None, flag: str = "output", *, builds_tables: bool = False) -> None:
    """Checks, before long work, that an output file can be written.

    Args:
        path: of the file; None for no output.
        flag: that gave it.
        builds_tables: the output is a neighbor table, which may replace another one.

    Raises:
        UserError: nothing can be written there, or what is there must not be replaced (`owned`).
    """
    if path is None:
        return
    if kept := ownership(path, builds_tables=builds_tables):
        raise UserError(f"--{flag}={path} {kept}: give a file of another name")
    try:
        storage.check_writable(path)
    except UserError as error:
        raise UserError(f"--{flag}={error}") from None


def check_distinct(**paths: PathLike | None) -> None:
    """UserError if two of these flags, {name: path or None}, name the same file: one would destroy the other."""
    given = [(flag, path) for flag, path in paths.items() if path]
    for (first, path), (second, other) in itertools.combinations(given, 2):
        if storage.same_file(path, other):
            raise UserError(f"--{first}={path} and --{second}={other} are the same file: give another for one of them")


def run(
    main: Callable,
    required: Sequence[str | tuple[str, ...]] = ("config",),
    needs: Iterable[str] = keys.SECTIONS,
    compiles: bool = False,
    takes_words: bool = False,
) -> None:
    """Runs a program under absl.

    A UserError becomes one line on stderr and its exit status. If nobody reads the output any more, the work continues
    silently. SIGINT and SIGTERM raise KeyboardInterrupt in `main` and are reported; the exit status is then 128 plus
    the number of the signal, as in a shell.

    Args:
        main: the program; called without arguments, unless takes_words.
        required: names of flags that must be given, if they are defined; of a tuple of names, one must be given.
        needs: keys or sections that the configuration must have.
        compiles: whether compiled programs are kept for the next start.
        takes_words: whether `main` takes the list of arguments that are not flags.
    """

    def guarded(argv):
        # At INFO libraries report every file that they rename: users should see only this project's messages.
        logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1 and not takes_words:
                raise UserError(f"unexpected argument {argv[1]!r}: options start with --")
            _check_given(required)
            _check_values(argv[0], needs)
            if compiles:
                keep_programs()
            restore_handlers()
            signal.signal(signal.SIGTERM, _terminate)
            main(argv[1:]) if takes_words else main()
            streams.check_shown()
        except UserError as error:
            _refuse(error)

    with streams.sturdy():
        try:
            app.run(guarded, flags_parser=functools.partial(_parse_flags, needs=needs))
        except UserError as error:
            _refuse(error)
        except KeyboardInterrupt as stop:
            terminated = isinstance(stop, _Terminated)
            print("stopped on request: the work was not finished" if terminated else "interrupted", file=sys.stderr)
            sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))


def _refuse(error):
    error.args = (config_flag.spelled(remote.told(error), sys.argv),)
    refuse(error)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came during work that cleans up after itself."""


def _terminate(signum, frame):
    raise _Terminated


def _check_given(required):
    for names in required:
        names = (names,) if isinstance(names, str) else names
        found = [flags.FLAGS[name] for name in names if name in flags.FLAGS]
        if found and all(flag.value is None for flag in found):
            raise UserError(f"--{names[0]} is missing: give {found[0].help}")


def option_of(flag: str) -> Option | None:
    """The Option of a flag, by its name; None for a flag without one."""
    return keys.SAMPLING.get(flag) or keys.FLAGS.get(flag) or keys.KEYS.get(f"semantics.{flag}")


def _check_values(program, needs):
    """UserError for a flag or a key out of its range. Also replaces ~ and $HOME in paths."""
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        if isinstance(flag.value, list):  # of a program's own: an option has one value
            continue
        option = option_of(flag.name)
        if option is not None and flag.value is not None:
            flag.value = option.expanded(flag.value)
            option.check(f"--{flag.name}", flag.value)
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    if config is not None:
        _settle_alternatives(config, config_flag.overrides())
        keys.expand_paths(config)
        keys.check_config(config, needs=needs)


def _settle_alternatives(config, given):
    """Resets the keys that exclude those of the command line (`keys.ALTERNATIVES`), in place.

    Args:
        config: changed in place.
        given: the keys of the command line.

    Raises:
        UserError: the command line gives keys that exclude one another.
    """
    groups = [(group, [key for key in group if key in given]) for group in keys.ALTERNATIVES]
    chosen = [found[0] for _, found in groups if found]
    if len(chosen) > 1:
        raise UserError(f"--config.{chosen[0]} and --config.{chosen[1]} exclude one another: give one of them")
    for group, found in groups:
        if chosen and not found:
            for key, value in group.items():
                section, _, name = key.rpartition(".")
                if name in config.get(section, {}):
                    config[section][name] = value


def _parse_flags(argv, needs):
    """absl's parser, with one sentence for every bad flag, and with --help in groups."""
    argv = config_flag.find_config(argv)
    config_flag.note_named(argv)
    if any(re.fullmatch("--?(help|h)", argument) for argument in argv[1:]):
        print(help_text(argv[0], needs, config_flag.named_config(argv)))
        sys.exit(0)
    overridden = config_flag.overridden(argv)
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"unknown flag --{error.flagname}: {_nearest_flag(argv[0], error.flagname)}") from None
    except flags.Error as error:
        cause = " ".join(str(error).split()).rstrip(".")
        _check_text(argv, cause)
        key = next((key for key in overridden if cause.startswith(f"flag --config.{key}=")), None)
        raise UserError(f"{cause}: {config_flag.hint_of(key, overridden[key])}" if key else cause) from None


def _nearest_flag(program, name):
    """`nearest` among the flags of a program, with the key of a configuration after a misspelled --config."""
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(program)]
    first, dot, key = name.partition(".")
    if dot and "config" in own and did_you_mean(first, ["config"]):
        return f"did you mean '--config.{key}'?"
    return nearest(f"--{name}", [f"--{flag}" for flag in own])


def _check_text(argv, cause):
    """UserError in the words of the option's own check, for the argument that absl refuses with `cause`."""
    if found := re.match(r"flag (--(?:config\.)?([\w.]+))=", cause):
        shown, name = found.groups()
        given = config_flag.flag_text(argv, shown[2:])
        values = getattr(flags.FLAGS[name].parser, "enum_values", None) if name in flags.FLAGS else None
        if values and given is not None:
            raise UserError(f"{shown}={given} is unknown: {nearest(given, values)}")
        option = keys.KEYS.get(name) if shown.startswith("--config.") else option_of(name)
        if option is not None and given is not None:
            option.check(shown, given)
