"""The one exception a user is meant to read, and the look-up by name that raises it."""

import difflib
import sys
from typing import NoReturn


class UserError(Exception):
    """Something the caller can mend: the message is one sentence with the cause and the mend.

    Entry points print it as `error: …` and exit with `status`; no traceback.
    """

    status = 2


class StorageError(UserError):
    """The disk failed under work that was asked for rightly: the same command can be given again once it is mended."""

    status = 1


def nearest(name, valid):
    """`did you mean …` for a misspelt name, or the valid names when none is near."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid names: {', '.join(sorted(valid))}"


def choose(kind, name, registry):
    """The registry's entry for `name`; a UserError with the nearest valid name otherwise."""
    if name not in registry:
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, registry)}")
    return registry[name]


def refuse(error: UserError) -> NoReturn:
    """Ends the program with one line on stderr, whatever the value holds that it tells of."""
    line = " ".join(str(error).split())
    print("error:", "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line), file=sys.stderr)
    sys.exit(error.status)
