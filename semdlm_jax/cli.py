"""What every entry point shares: the --config flag, and errors told in one sentence."""

import sys

from absl import app, flags, logging
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


def run(main):
    """Runs `main()` under absl; a UserError becomes one line on stderr and exit status 2."""

    def guarded(argv):
        # Libraries tell every file they rename at INFO: what a user reads here is this project's own.
        logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}: options start with --")
            if "config" in flags.FLAGS and flags.FLAGS["config"].value is None:
                raise UserError("--config is missing: give a file, e.g. --config=configs/quickstart.py")
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
