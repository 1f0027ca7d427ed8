"""What every entry point shares: the --config flag, and errors told in one sentence."""

import itertools
import pathlib
import re
import sys
import textwrap

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from semdlm_jax import storage, streams
from semdlm_jax.errors import UserError, nearest

flags.disclaim_key_flags()  # --config belongs to the entry point that asks for it: its --help lists it


def define_config_flag():
    """Defines `--config=FILE[:SYSTEM]` with `--config.some.key=value` overrides; returns its flag holder."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "a configuration file, e.g. configs/quickstart.py; override any key with --config.section.key=value",
        lock_config=True,
    )


def check_output(path, flag="output"):
    """UserError unless a file can be written at `path`: asked before long work. None is fine."""
    if path is None:
        return
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


def run(main, required=()):
    """Runs `main()` under absl; a UserError becomes one line on stderr and its exit status. Work goes on, quietly,
    where nobody can read what is printed any more.

    required: names of flags that must be given; the config always is one where it is defined.
    """

    def guarded(argv):
        # Libraries tell every file they rename at INFO: what a user reads here is this project's own.
        logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}: options start with --")
            for name in ("config", *required):
                if name in flags.FLAGS and flags.FLAGS[name].value is None:
                    raise UserError(f"--{name} is missing: give {flags.FLAGS[name].help}")
            main()
            streams.check_shown()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.status)

    with streams.sturdy():
        try:
            app.run(guarded, flags_parser=_parse_flags)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.status)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


def help_text(program):
    """The program's docstring and its flags, in the order and under the headings of their definitions: a flag whose
    help begins with `[heading]` goes under it."""
    groups = {}
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        # absl puts an enum's values before its help.
        heading, text = re.fullmatch(r"(?:<.*?>: )?(?:\[(.+?)\] )?(.*)", flag.help or "", re.DOTALL).groups()
        values = getattr(flag.parser, "enum_values", None)
        kind = "|".join(values) if values else flag.flag_type().upper()
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={kind}"
        default = "" if flag.boolean or flag.value in (None, "") else f" Default: {flag.value}."
        lines = textwrap.wrap(text + default, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
        groups.setdefault(heading or "", []).append("\n".join([f"  {name}", *lines]))
    parts = [(sys.modules["__main__"].__doc__ or "").strip()]
    parts += [f"{heading}:\n" * bool(heading) + "\n".join(entries) for heading, entries in groups.items()]
    return "\n\n".join(parts)


def _parse_flags(argv):
    """absl's parser, with every bad flag told in one sentence, and its help by groups."""
    if any(re.fullmatch("--?(help|h)", argument) for argument in argv[1:]):
        print(help_text(argv[0]))
        sys.exit(0)
    overridden = _overridden(argv)
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
        raise UserError(f"unknown flag --{error.flagname}: {nearest(error.flagname, own)}") from None
    except flags.Error as error:
        cause = " ".join(str(error).split()).rstrip(".")
        key = next((key for key in overridden if cause.startswith(f"flag --config.{key}=")), None)
        raise UserError(f"{cause}: {_hint(key, overridden[key])}" if key else cause) from None


def _overridden(argv):
    """{key: default} of the --config.key arguments. UserError for a missing file or a key that it lacks.

    Read ahead of absl's parser, because ml_collections tells the first in a traceback and the second without a mend.
    """
    if "config" not in flags.FLAGS:
        return {}
    path, keys = None, []
    for argument, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = argument.partition("=")
        if re.fullmatch("--?config", name):
            path = value if equals else following
        elif found := re.match(r"--?(?:no)?config\.(.+)", name):
            keys.append(found[1])
    if path is None:
        return {}
    if not pathlib.Path(path.partition(":")[0]).is_file():
        raise UserError(f"--config={path}: no such file: give one, e.g. configs/quickstart.py")
    config = parse_config(path)
    return {key: _lookup(config, key) for key in keys}


def parse_config(path):
    """The configuration at FILE[:SYSTEM]. UserError when the file is none, or knows no systems."""
    file, _, system = path.partition(":")
    try:
        return flags.FLAGS["config"].parser.parse(path)
    except (TypeError, AttributeError, ImportError, SyntaxError) as error:
        if system and "get_config() takes 0 positional" in str(error):
            raise UserError(f"--config={path}: {file} knows no systems: give it without :{system}") from None
        raise UserError(
            f"--config={path}: not a configuration ({error}): it needs a function get_config(system=None)"
        ) from None


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
