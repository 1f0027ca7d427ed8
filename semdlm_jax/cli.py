"""What every entry point shares: the --config flag, values checked before any work, errors told in one sentence."""

import functools
import itertools
import os
import re
import sys
import textwrap

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from semdlm_jax import keys, storage, streams
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.experiment import configs
from semdlm_jax.options import Option
from semdlm_jax.owned import owner_of
from semdlm_jax.runtime.startup import restore_handlers

flags.disclaim_key_flags()  # --config belongs to the entry point that asks for it: its --help lists it


def define_config_flag():
    """Defines `--config=FILE[:SYSTEM]`, or NAME[:SYSTEM] of a configuration that comes with the package, and
    `--config.some.key=value` for changes of it; returns its flag holder."""
    about = (
        f"a configuration, by its name ({', '.join(configs.names())}) or file, e.g. configs/quickstart.py; "
        "override any key with --config.section.key=value"
    )
    try:
        flag = config_flags.DEFINE_config_file("config", None, about, lock_config=True)
    except flags.Error as error:  # it reads --flagfile already
        _refuse(UserError(error))
    # So that the options of a user's own plug-ins are keys, too.
    parser = flags.FLAGS["config"].parser
    parser.parse = functools.partial(_parse_with_options, parser.parse)
    return flag


def _parse_with_options(parse, path):
    """The configuration at `path` with the options of the user's own plug-ins, the command line's among them."""
    config = parse(path)
    return keys.with_users_options(config, _named) if isinstance(config, ConfigDict) else config


_named: dict[str, str] = {}  # the plug-ins that the command line names, by their keys


def define_data_flag(heading=""):
    """Defines `--data_directory=DIR`; returns its flag holder."""
    help_text = heading + "Where the prepared data lie now, if they were moved."
    return flags.DEFINE_string("data_directory", None, help_text)


def define_load_flags(heading=""):
    """Defines the flags of whoever reads a run."""
    define_data_flag(heading)
    trust = "Import the module of a kernel of the trainer's own, which runs its code."
    flags.DEFINE_bool("trust_kernel", False, heading + trust)


def define_option_flag(name: str, option: Option, heading: str, default: str) -> None:
    """Defines `--name`, None where it is not given. heading: '[…] ', what it goes under; default: what holds then."""
    about = f"{heading}{option.describe()}. {default}."
    if option.kind is str:
        flags.DEFINE_string(name, None, about)
    else:
        define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}[option.kind]
        define(name, None, about)


def load_options(options) -> dict:
    """The values of those flags, as experiment.load.load_trained takes them."""
    return {"data_directory": options.data_directory, "trust_kernel": options.trust_kernel}


def check_output(path, flag="output"):
    """UserError unless a file can be written at `path` that is none of a run's or of prepared data: asked before long
    work. None is fine."""
    if path is None:
        return
    if owner := owner_of(path):
        raise UserError(f"--{flag}={path} belongs to {owner}: give a file of another name")
    try:
        storage.check_writable(path)
    except UserError as error:
        raise UserError(f"--{flag}={error}") from None


def check_distinct(**paths):
    """UserError where two flags, {name: path or None}, name one file: one would destroy the other."""
    given = [(flag, path) for flag, path in paths.items() if path]
    for (first, path), (second, other) in itertools.combinations(given, 2):
        if storage.same_file(path, other):
            raise UserError(f"--{first}={path} and --{second}={other} are the same file: give another for one of them")


def run(main, required=("config",), needs=keys.SECTIONS):
    """Runs `main()` under absl; a UserError becomes one line on stderr and its exit status. Work goes on, quietly,
    where nobody can read what is printed any more. SIGINT raises KeyboardInterrupt in `main`, which is told in a word.

    required: names of flags that must be given, where they are defined. needs: keys of the config, or sections, that
    must be there.
    """

    def guarded(argv):
        # Libraries tell every file they rename at INFO: what a user reads here is this project's own.
        logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}: options start with --")
            for name in required:
                if name in flags.FLAGS and flags.FLAGS[name].value is None:
                    raise UserError(f"--{name} is missing: give {flags.FLAGS[name].help}")
            _check_values(argv[0], needs)
            restore_handlers()
            main()
            streams.check_shown()
        except UserError as error:
            _refuse(error)

    with streams.sturdy():
        try:
            app.run(guarded, flags_parser=functools.partial(_parse_flags, needs=needs))
        except UserError as error:
            _refuse(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


def _refuse(error):
    """One line on stderr, whatever the value holds that it tells of."""
    line = " ".join(str(error).split())
    print("error:", "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line), file=sys.stderr)
    sys.exit(error.status)


def option_of(flag: str) -> Option | None:
    """What the table of options says of a flag, by its name: None where nothing."""
    return keys.SAMPLING.get(flag) or keys.FLAGS.get(flag) or keys.KEYS.get(f"semantics.{flag}")


def _check_values(program, needs):
    """UserError for a flag or a key of the configuration out of its range; ~ and $HOME in paths are replaced."""
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        option = option_of(flag.name)
        if option is not None and flag.value is not None:
            flag.value = option.expanded(flag.value)
            option.check(f"--{flag.name}", flag.value)
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    if config is not None:
        keys.expand_paths(config)
        keys.check_config(config, needs=needs)


def help_text(program, needs):
    """The program's docstring and its flags, in the order and under the headings of their definitions: a flag whose
    help begins with `[heading]` goes under it. Where there is a --config, its keys that the program needs too."""
    groups = {}
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        # absl puts an enum's values before its help.
        heading, text = re.fullmatch(r"(?:<.*?>: )?(?:\[(.+?)\] )?(.*)", flag.help or "", re.DOTALL).groups()
        values = getattr(flag.parser, "enum_values", None)
        kind = "|".join(values) if values else flag.flag_type().upper()
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={kind}"
        default = "" if flag.boolean or flag.value in (None, "") else f" Default: {flag.value}."
        groups.setdefault(heading or "", []).append(_entry(name, text + default))
    if "config" in flags.FLAGS:
        entries = [_entry(f"{key}={keys.KEYS[key].default}", keys.KEYS[key].describe()) for key in keys.below(needs)]
        groups["keys of the configuration, --config.KEY=VALUE, and their defaults"] = entries
    parts = [(sys.modules["__main__"].__doc__ or "").strip()]
    parts += [f"{heading}:\n" * bool(heading) + "\n".join(entries) for heading, entries in groups.items()]
    return "\n\n".join(parts)


def _entry(name, text):
    return "\n".join([f"  {name}", *textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)])


def _parse_flags(argv, needs):
    """absl's parser, with every bad flag told in one sentence, and its help by groups."""
    if any(re.fullmatch("--?(help|h)", argument) for argument in argv[1:]):
        print(help_text(argv[0], needs))
        sys.exit(0)
    argv = _find_config(argv)
    _named.clear()
    _named.update({choice.key: name for choice in keys.CHOICES if (name := flag_text(argv, f"config.{choice.key}"))})
    overridden = _overridden(argv)
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
        raise UserError(f"unknown flag --{error.flagname}: {nearest(error.flagname, own)}") from None
    except flags.Error as error:
        cause = " ".join(str(error).split()).rstrip(".")
        _check_text(argv, cause)
        key = next((key for key in overridden if cause.startswith(f"flag --config.{key}=")), None)
        raise UserError(f"{cause}: {_hint(key, overridden[key])}" if key else cause) from None


def flag_text(argv, flag) -> str | None:
    """What is given for a flag as --FLAG=TEXT, the last one; None where it is not given so."""
    texts = [argument.partition("=")[2] for argument in argv if argument.lstrip("-").startswith(f"{flag}=")]
    return texts[-1] if texts else None


def _check_text(argv, cause):
    """UserError, in the words of the table, for the argument of which absl says `cause`."""
    if found := re.match(r"flag (--(?:config\.)?([\w.]+))=", cause):
        shown, name = found.groups()
        given = flag_text(argv, shown[2:])
        option = keys.KEYS.get(name) if shown.startswith("--config.") else option_of(name)
        if option is not None and given is not None:
            option.check(shown, given)


def _overridden(argv):
    """{key: default} of the --config.key arguments. UserError for a key that the configuration lacks.

    Read ahead of absl's parser, because ml_collections tells it without a mend.
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


def _find_config(argv):
    """argv with the path of a file for whatever --config names. UserError: there is none."""
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
    """FILE[:SYSTEM] of what --config is given: a name of the package's own is looked up, ~ and $HOME replaced."""
    file, colon, system = os.path.expandvars(os.path.expanduser(given)).partition(":")
    return configs.find(file) + colon + system


def parse_config(path):
    """The configuration at FILE[:SYSTEM]. UserError when the file is none, or knows no systems."""
    file, _, system = path.partition(":")
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # of a configuration that is None ml_collections tells on its own
    try:
        config = flags.FLAGS["config"].parser.parse(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own file does
        if isinstance(error, SystemExit) and not error.code:
            raise  # the list of systems was asked for, and printed
        if system and "get_config() takes 0 positional" in str(error):
            raise UserError(f"--config={path}: {file} knows no systems: give it without :{system}") from None
        cause = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(
            f"--config={path}: not a configuration ({cause}): it needs a function get_config(system=None)"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    if not isinstance(config, ConfigDict):
        kind = "nothing" if config is None else type(config).__name__
        raise UserError(
            f"--config={path}: its get_config returns {kind}: return a ConfigDict, as experiment/defaults.py does"
        )
    return config


def changes(data_directory=None) -> dict:
    """What this command line changes: {"given": {key: the configuration file's own value}, "file_config": that file's
    configuration, None where a system of it is named}. data_directory: as --config.data.directory, where given."""
    flag = flags.FLAGS["config"]
    config, given = parse_config(flag.config_filename), dict(flag.override_values)
    if data_directory is not None:
        flag.value.data.directory = given["data.directory"] = data_directory
    given = {key: _lookup(config, key) for key in given}
    return {"given": given, "file_config": None if ":" in flag.config_filename else config}


def set_key(config, key, text):
    """Sets the value at a dotted key from its text, as a flag would. UserError: no such key, or not of its type."""
    default = _lookup(config, key)
    section, _, name = key.rpartition(".")
    try:
        value = text.lower() in ("true", "1") if isinstance(default, bool) else type(default)(text)
    except (TypeError, ValueError):
        raise UserError(f"{key}={text}: {_hint(key, default)}") from None
    (_lookup(config, section) if section else config)[name] = value


def _lookup(config, key):
    """The value at a dotted key. UserError with the nearest key when there is none."""
    value, way = config, "config"
    for part in key.split("."):
        if not isinstance(value, ConfigDict) or part not in value:
            valid = nearest(part, value) if isinstance(value, ConfigDict) else f"{way} is a value, not a section"
            raise UserError(f"--config.{key}: {way} has no key {part!r}: {valid}")
        value, way = value[part], f"{way}.{part}"
    return value


def _hint(key, default):
    if isinstance(default, ConfigDict):
        return f"it is a section: set one of its keys, e.g. --config.{key}.{next(iter(default))}=…"
    return f"give a value like its default {default!r}"
