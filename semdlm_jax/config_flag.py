"""The --config flag: finding the configuration, the keys that a command line changes, and options of own plug-ins."""

import functools
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from semdlm_jax import keys
from semdlm_jax.errors import UserError, nearest, refuse
from semdlm_jax.experiment import configs
from semdlm_jax.former import renamed
from semdlm_jax.users_code import failure

flags.disclaim_key_flags()  # --config belongs to the entry point that asks for it: its --help lists it
_named: dict[str, str] = {}  # the plug-ins that the command line names, by their keys


def define_config_flag():
    """Defines `--config=FILE[:SYSTEM]` and `--config.some.key=value`; returns the flag holder.

    Instead of FILE, the name of a configuration of the package can be given.
    """
    about = (
        f"a configuration, by its name ({', '.join(configs.names())}) or file, e.g. configs/quickstart.py; "
        "override any key with --config.section.key=value"
    )
    try:
        flag = config_flags.DEFINE_config_file("config", None, about, lock_config=True)
    except flags.Error as error:  # the definition already reads --flagfile
        refuse(UserError(error))
    # With this, options of a user's own plug-ins are keys too.
    parser: Any = flags.FLAGS["config"].parser
    parser.parse = functools.partial(_parse_with_options, parser.parse)
    return flag


def overrides() -> dict[str, Any]:
    """{key: value} of the --config.key=value arguments."""
    flag: Any = flags.FLAGS["config"]
    return dict(flag.override_values)


def _parse_with_options(parse, path):
    """The configuration at `path`, with keys for the options of own plug-ins, also of those on the command line."""
    config = parse(path)
    return keys.with_users_options(config, _named) if isinstance(config, ConfigDict) else config


def note_named(argv: Sequence[str]) -> None:
    """Remembers the plug-ins that a command line names."""
    _named.clear()
    _named.update({choice.key: name for choice in keys.CHOICES if (name := flag_text(argv, f"config.{choice.key}"))})


def flag_text(argv: Sequence[str], flag: str) -> str | None:
    """The TEXT of the last --FLAG=TEXT, or --FLAG TEXT; None if there is none."""
    texts = []
    for argument, following in zip(argv, [*argv[1:], None]):
        name, equals, value = argument.partition("=")
        if re.fullmatch(f"--?{re.escape(flag)}", name):
            texts.append(value if equals else following)
    return texts[-1] if texts else None


def overridden(argv: Sequence[str]) -> dict[str, Any]:
    """{key: default} of the --config.key arguments. UserError for a key that the configuration lacks.

    Called before absl's parser, because the message of ml_collections does not say what to do.
    """
    if "config" not in flags.FLAGS:
        return {}
    path, names = None, []
    for argument, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = argument.partition("=")
        if re.fullmatch("--?config", name):
            path = value if equals else following
        elif found := re.match(r"--?(?:no)?config\.(.+)", name):
            names.append(found[1])
    if not path:
        return {}
    config = parse_config(path)
    return {name: _lookup(config, name) for name in names}


def named_config(argv: Sequence[str]) -> Any:
    """The configuration that --config names, with the plug-ins that the command line names; None without --config."""
    path = flag_text(argv, "config") if "config" in flags.FLAGS else None
    if not path:
        return None
    config = parse_config(path)
    for key, name in _named.items():
        set_key(config, key, name)
    return config


def spelled(message: str, argv: Sequence[str]) -> str:
    """A message with the --config arguments of the command line in the place of `--config=…`, as a shell reads them."""
    arguments, awaits_value = [], False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        if begins := re.fullmatch(r"--?(no)?config(\..+)?", name):
            awaits_value = not (equals or begins[1])
        elif not awaits_value or argument.startswith("--"):
            awaits_value = False
            continue
        arguments.append(shlex.quote(argument))
        awaits_value = awaits_value and begins is not None
    return message.replace("--config=…", " ".join(arguments)) if arguments else message


def find_config(argv: list[str]) -> list[str]:
    """argv with the path of a file in the place of what --config names. UserError: there is no such file."""
    if "config" not in flags.FLAGS:
        return argv
    found, awaits_value = [], False
    for argument in argv:
        name, equals, value = argument.partition("=")
        names_config = re.fullmatch("--?config", name) is not None
        if awaits_value:
            argument = _config_path(argument)
        elif names_config and equals:
            argument = f"{name}={_config_path(value)}"
        found.append(argument)
        awaits_value = names_config and not equals and not awaits_value
    return found


def _config_path(given):
    """FILE[:SYSTEM] for a value of --config: names of the package are looked up, ~ and $HOME are replaced."""
    file, colon, system = os.path.expandvars(os.path.expanduser(given)).partition(":")
    return configs.find(file) + colon + system


def parse_config(path: str) -> Any:
    """The ConfigDict at FILE[:SYSTEM]. UserError: the file is no configuration, or it has no systems."""
    file, _, system = path.partition(":")
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # ml_collections also warns of a configuration that is None
    try:
        config = flags.FLAGS["config"].parser.parse(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own file may raise anything
        if isinstance(error, SystemExit) and not error.code:
            raise  # the list of systems was printed, as requested
        if str(error).startswith("Error whilst parsing") and error.__context__:  # ml_collections hides the cause
            error = error.__context__
        if system and "get_config() takes 0 positional" in str(error):
            raise UserError(f"--config={path}: {file} knows no systems: give it without :{system}") from None
        if isinstance(error, AttributeError) and error.name == "get_config":
            raise UserError(
                f"--config={path}: {file} has no function get_config(system=None): write one that returns a ConfigDict"
            ) from None
        raise failure(f"--config={path}: the file failed", error, os.path.abspath(file)) from None
    finally:
        logging.set_verbosity(verbosity)
    if not isinstance(config, ConfigDict):
        kind = "nothing" if config is None else type(config).__name__
        raise UserError(
            f"--config={path}: its get_config returns {kind}: return a ConfigDict, as experiment/defaults.py does"
        )
    return config


def changes(data_directory: str | None = None) -> dict:
    """What this command line changes.

    Args:
        data_directory: of --data_directory, which acts like --config.data.directory.

    Returns:
        {"given": {key: the value of the configuration file}, "file_config": the configuration of the file, None if a
        system is named}.
    """
    flag: Any = flags.FLAGS["config"]
    config, given = parse_config(flag.config_filename), overrides()
    if data_directory is not None:
        flag.value.data.directory = given["data.directory"] = data_directory
    given = {key: _lookup(config, key) for key in given}
    return {"given": given, "file_config": None if ":" in flag.config_filename else config}


def set_key(config: Any, key: str, text: str) -> None:
    """Sets the value at a dotted key from text, as a flag does. UserError: no such key, or a value of another type."""
    default = _lookup(config, key)
    section, _, name = key.rpartition(".")
    try:
        value = text.lower() in ("true", "1") if isinstance(default, bool) else type(default)(text)
    except (TypeError, ValueError):
        raise UserError(f"{key}={text}: {hint_of(key, default)}") from None
    (_lookup(config, section) if section else config)[name] = value


def _lookup(config, key) -> Any:
    """The value at a dotted key. UserError with the nearest key if there is none."""
    value, way = config, "config"
    for part in key.split("."):
        if not isinstance(value, ConfigDict) or part not in value:
            valid = nearest(part, value) if isinstance(value, ConfigDict) else f"{way} is a value, not a section"
            valid = renamed(key) or valid
            raise UserError(f"--config.{key}: {way} has no key {part!r}: {valid}")
        value, way = value[part], f"{way}.{part}"
    return value


def hint_of(key: str, default: Any) -> str:
    """What to give for a key instead of a refused value."""
    if isinstance(default, ConfigDict):
        return f"it is a section: set one of its keys, e.g. --config.{key}.{next(iter(default))}=…"
    return f"give a value like its default {default!r}"
