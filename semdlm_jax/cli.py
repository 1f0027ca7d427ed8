"""What every entry point shares: the --config flag, and errors told in one sentence."""

import difflib
import sys

from absl import app, flags
from ml_collections import config_flags

from semdlm_jax.errors import UserError


def define_config_flag():
    """Defines `--config=FILE[:SYSTEM]` with `--config.some.key=value` overrides; returns its flag holder."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, e.g. configs/quickstart.py; override any key with --config.section.key=value.",
        lock_config=True,
    )


def nearest(name, valid):
    """`did you mean …` for a misspelt name, or the valid names when none is near."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid names: {', '.join(sorted(valid))}"


def choose(kind, name, registry):
    """The registry's entry for `name`; a UserError with the nearest valid name otherwise."""
    if name not in registry:
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, registry)}")
    return registry[name]


def run(main):
    """Runs `main()` under absl; a UserError becomes one line on stderr and exit status 2."""

    def guarded(argv):
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}: options start with --")
            main()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    try:
        app.run(guarded, flags_parser=_parse_flags)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parse_flags(argv):
    """absl's parser, with a misspelt config key, a missing config file or an unknown flag told in one sentence."""
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # ml_collections: a key the config lacks
        raise UserError(f"--config: {' '.join(str(error).split())}") from None
    except (FileNotFoundError, IOError) as error:
        raise UserError(f"--config: {error}") from None
    except flags.Error as error:
        raise UserError(str(error).strip().replace("\n", " ")) from None
