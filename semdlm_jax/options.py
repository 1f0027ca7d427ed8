"""Options: the possible values of each, and the check of a value; `semdlm_jax.keys` is the table of all options.

A refusal is one sentence with the value, what is wrong with it, and what to give instead:

    kernel.gamma = nan is no finite number: give one in [0.001, 1000]
"""

import dataclasses
import functools
import importlib
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from semdlm_jax.errors import UserError, did_you_mean, nearest

# module:Class, the name of a user's own plug-in.
OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Kinds of addresses whose folders are copied (`remote`), with the packages that they need. memory: for tests.
STORES = {"gs": ("gcsfs",), "s3": ("s3fs",), "memory": ("fsspec",)}
ONE_SLASH = re.compile(f"({'|'.join(STORES)}):/(?!/)")  # what pathlib makes of an address
# Limits of common file systems: bytes of a file name and of a whole path.
LONGEST_NAME, LONGEST_PATH = 255, 4095
SHOWN = 80  # characters of a refused value


class Interval(NamedTuple):
    """A range of numbers: '[0, 1)' contains 0 and not 1."""

    low: float
    high: float
    low_open: bool
    high_open: bool

    def holds(self, value: Any) -> bool:
        above = self.low < value if self.low_open else self.low <= value
        return above and (value < self.high if self.high_open else value <= self.high)


@functools.cache
def interval(text: str) -> Interval:
    """The Interval of a text like '[0, 1)'. Both ends are finite, so that no option can be infinite."""
    low, high = map(float, text[1:-1].split(","))
    assert text[0] in "[(" and text[-1] in "])" and -math.inf < low < high < math.inf, text
    return Interval(low, high, text[0] == "(", text[-1] == ")")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        default: its value if none is given; None if that depends on other things.
        meaning: one line.
        kind: bool, int, float or str.
        within: for numbers, the interval of possible values.
        among: for texts, the valid names: a tuple, or 'module:REGISTRY' of this package. If the text has a part after a
            colon, these are the names before the colon.
        own: whether `module:Class` is valid too.
        path: 'whole' if the text is a path, 'after' if the part after the colon is one, 'folder' if it is the path of a
            folder or an address of STORES.
        filled: whether '' is refused.
        only: where the option is read: alternatives 'key: value value', separated by '|'; 'value:' stands for all
            values that begin so. '' means everywhere.
    """

    default: object
    meaning: str
    kind: type
    within: str = ""
    among: tuple[str, ...] | str = ()
    own: bool = False
    path: str = ""
    filled: bool = False
    only: str = ""

    def check(self, name: str, value: object) -> None:
        """UserError unless the option can have this value. name: of the option, for the message."""
        if value is None and self.default is None:
            return
        problem = self._text_problem(value) if self.kind is str else self._number_problem(value)
        if problem:
            equals = "=" if name.startswith("--") else " = "
            raise UserError(f"{name}{equals}{shown(value)} {problem}")

    def _number_problem(self, value):
        if self.kind is bool:
            return "" if isinstance(value, bool) else "is neither true nor false: give one of them"
        whole = self.kind is int
        a = "a whole number" if whole else "a number"
        if hasattr(value, "dtype") and not isinstance(value, numbers.Number):  # numpy's own numbers are Python's
            return f"is an array and not {a}: give {self.kind.__name__}(…) of it, in {self.within}"
        if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
            return f"is not {a}: give one in {self.within}"
        if not whole and not math.isfinite(value):
            return f"is no finite number: give one in {self.within}"
        return "" if interval(self.within).holds(value) else f"is not possible: give {a} in {self.within}"

    def _text_problem(self, value):
        if not isinstance(value, str):
            return "is no text: give one in quotes"
        if self.filled and not value.strip():
            wanted = f"one like its default {self.default!r}" if self.default else f"{self.meaning}, or leave it out"
            return f"is empty: give {wanted}"
        head, colon, tail = value.partition(":")
        path = {"": "", "whole": value, "folder": value, "after": tail}[self.path]
        found = path_problem(path, stores=self.path == "folder")
        unnamed = self.path == "after" and not value  # what it would name is given elsewhere
        if found or unnamed or not self.among or (self.own and OWN.fullmatch(value)):
            return found
        name = head if self.path == "after" else value
        if name in (valid := self.names()):
            return ""
        return f"is unknown: {(nearest_or_own if self.own else nearest)(name, valid)}"

    def names(self) -> tuple[str, ...]:
        """The valid names of a text; () if any text is valid."""
        return tuple(resolve(self.among)) if isinstance(self.among, str) else self.among

    def expanded(self, value: Any) -> Any:
        """The value, with ~ and $HOME in its path replaced."""
        if not (self.path and isinstance(value, str)):
            return value
        head, colon, tail = value.partition(":") if self.path == "after" else ("", "", value)
        return head + colon + os.path.expandvars(os.path.expanduser(tail))

    def is_read(self, in_use: Callable[[str], Iterable[str]]) -> bool:
        """Whether a run reads the option. in_use: a function from a key to the names that the run uses for it."""
        alternatives = (part.partition(":") for part in self.only.split("|") if part.strip())
        found = [
            any(one == name or (name.endswith(":") and one.startswith(name)) for one in in_use(key.strip()))
            for key, _, names in alternatives
            for name in names.split()
        ]
        return not found or any(found)

    def describe(self) -> str:
        """Its meaning and its possible values, for --help."""
        told = set(re.findall(r"[\w-]+", self.meaning))
        names = self.names() if set(self.names()) - told else ()  # once is enough
        valid = self.within or " ".join(names)
        whole = "; ".join(part for part in (self.meaning, valid) if part)
        return whole + (" or module:Class" if names else "; or module:Class") * self.own


def number(default, within: str, meaning: str, **more) -> Option:
    """A float or an int, as its default is; kind=… where that is None."""
    return Option(default, meaning, **{"kind": type(default), "within": within, **more})


def switch(default: bool | None, meaning: str, **more) -> Option:
    return Option(default, meaning, bool, **more)


def text(default: str | None, meaning: str, among: tuple[str, ...] | str = (), **more) -> Option:
    return Option(default, meaning, str, among=among, **more)


def numbers_in(name: str, text: str, within: str, kind: type = float) -> tuple:
    """The numbers of a text like '256,64,16' or '256 64 16'; () of ''. UserError unless all are of this kind and in the
    interval."""
    found = []
    for part in re.split(r"\s*,\s*|\s+", text.strip()) if text.strip() else []:
        try:
            found.append(kind(part if part.isascii() else ""))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise UserError(f"{name} = {shown(text)} holds {part!r}: give {what} with commas between them") from None
        if problem := number(None, within, "", kind=kind)._number_problem(found[-1]):
            raise UserError(f"{name} = {shown(text)} holds {part}, which {problem}")
    return tuple(found)


def blocks_in(name: str, text: str) -> tuple[int, ...]:
    """The numbers of blocks of nested partitions, from fine to coarse, of a text like '256,64,16'. UserError unless
    they fall."""
    try:
        blocks = numbers_in(name, text, "[1, 2147483647]", kind=int)
    except UserError:
        blocks = (0, 0)
    if any(fine <= coarse for fine, coarse in zip(blocks, blocks[1:])):
        raise UserError(
            f"{name} = {shown(text)} is not possible: give whole numbers that fall, as '256,64,16', or '' for none"
        )
    return blocks


def path_problem(path: str, stores: bool = False) -> str:
    """What keeps a text from being the path of a file here, '' for nothing. No file is looked for. stores: whether it
    may be an address of STORES."""
    if "\0" in path:
        return "holds a NUL byte, which no path can: give another"
    if stores and (found := ADDRESS.match(path)):
        known = [f"{scheme}://" for scheme in STORES]
        if found.group() not in known:
            return f"is an address of no store that is known: give a path, or one of {', '.join(known[:-1])}"
        below = path[found.end() :].rstrip("/")
        if not below:
            return "names no bucket: give one, and a folder in it"
        if "::" in below or {"", ".", ".."} & {*below.split("/")}:
            return "is the address of no folder: leave out '::', '.', '..' and doubled slashes"
    elif ADDRESS.match(path):
        return "is an address, and only files of this machine are read and written: give a path, of a copy or a mount"
    parts = os.fsencode(path).split(b"/")
    if max(map(len, parts)) > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
        return f"is longer than a path can be ({LONGEST_NAME} bytes a name): give a shorter one"
    if path.startswith("~"):
        return "begins with ~ and the name of no user: give the whole path"
    return ""


def shown(value: object) -> str:
    """A value in a message, on one line and not too long."""
    written = repr(value)
    return written if len(written) <= SHOWN else written[: SHOWN - 1] + "…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """'1 file' or '1,200 files', in a message. plural: of the noun, where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def resolve(place: str):
    """What 'module:NAME' of this package names; the module is imported only now."""
    module, name = place.split(":")
    return getattr(importlib.import_module(f"semdlm_jax.{module}"), name)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{'section.key': value} of nested mappings."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if hasattr(value, "items") else {f"{prefix}{key}": value}
    return flat


def nest(flat: dict[str, Any]) -> dict:
    """The nested dict of {'section.key': value}."""
    tree = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        here = tree
        for section in sections:
            here = here.setdefault(section, {})
        here[name] = value
    return tree


def nearest_or_own(name: str, valid: Iterable[str]) -> str:
    """`nearest`, where a class of a user's own may be named, too: as module:Class."""
    valid, (module, _, attribute) = list(valid), name.rpartition(".")
    if OWN.fullmatch(spelled := f"{module}:{attribute}"):
        return f"for a class of your own give module:Class, here {spelled}"
    return did_you_mean(name, valid) or f"{nearest(name, valid)}; or a class of your own, as module:Class"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """`did you mean …` of an unknown dotted key: among the names of its section, or among the sections."""
    section, _, name = key.rpartition(".")
    siblings = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == section]
    if siblings:
        return nearest(name, siblings)
    return nearest(key.partition(".")[0], {one.partition(".")[0] for one in known})
