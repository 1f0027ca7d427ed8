"""The exceptions whose messages are written for users, and the look-up by name that raises them."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """An error that the caller can correct. The message is one sentence with the cause and the correction.

    Entry points print it as `error: …` without a traceback and exit with `status`.
    """

    status = 2


class CodeNotLoadedError(UserError):
    """Data need a class of a user's own whose module is not imported, or not found: the data themselves are sound."""


class StorageError(UserError):
    """The disk failed during valid work: the same command can be given again once there is room."""

    status = 1


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """'did you mean …' for a misspelled name; '' if none of the valid names is similar."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


def nearest(name: str, valid: Iterable[str]) -> str:
    """'did you mean …' for a misspelled name; the list of valid names if none is similar."""
    valid = list(valid)
    return did_you_mean(name, valid) or f"valid names: {', '.join(sorted(valid))}"


def choose(kind: str, name: str, registry: Mapping[str, T]) -> T:
    """The entry of a registry.

    Args:
        kind: what the registry holds, for the message.
        name: to look up.
        registry: a mapping.

    Raises:
        UserError: there is no such entry; the message suggests the nearest name.
    """
    if not isinstance(name, str):
        raise UserError(f"{kind} is {name!r:.80}, which is no name: {nearest('', registry)}")
    if name not in registry:
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, registry)}")
    return registry[name]


def refuse(error: UserError) -> NoReturn:
    """Ends the program with one line on stderr; unprintable characters are escaped."""
    line = " ".join(str(error).split())
    print("error:", "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line), file=sys.stderr)
    sys.exit(error.status)
