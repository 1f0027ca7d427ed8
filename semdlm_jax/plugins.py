"""The common form of everything that a configuration selects by name: kernels, losses, samplers, corpora, tokenizers …

A plug-in is a frozen dataclass that extends the base class of its kind. Its fields are its options:

    @dataclasses.dataclass(frozen=True)
    class Focal(Loss):
        \"\"\"One line: what it is.\"\"\"

        focus: float = field(number(2.0, "[0, 10]", "how much the likely tokens count less"))

The keys of a configuration, the flags of the programs, their checks and their help are generated from the fields. A
plug-in of the package is listed in the registry of its kind; a user's own plug-in is given as `module:Class` instead of
a name.
"""

import contextlib
import dataclasses
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from semdlm_jax.errors import UserError, choose, did_you_mean, nearest
from semdlm_jax.former import check_arguments, renamed_argument
from semdlm_jax.options import OWN, Option, nearest_or_own
from semdlm_jax.users_code import UsersCode, failure, file_of, full_name, import_class

P = TypeVar("P", bound="Plugin")
PLAIN = (bool, int, float, str)
ANY_NUMBER, ANY_COUNT = "[-1e30, 1e30]", "[-1e18, 1e18]"


def field(option: Option, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field with the range, meaning and default of an option. default: replaces that of the option."""
    default = option.default if default is dataclasses.MISSING else default
    return dataclasses.field(default=default, metadata={"option": dataclasses.replace(option, default=default)})


def part(registry: "Registry", default: Any) -> Any:
    """A keyword-only dataclass field that holds a plug-in of another kind, with its own section in a configuration.

    Args:
        registry: of that kind.
        default: a plug-in of it.
    """
    return dataclasses.field(default=default, metadata={"part": registry}, kw_only=True)


class Plugin(UsersCode):
    """The base of all plug-ins: checks its options when it is made.

    Raises:
        UserError: a value out of its range, or an option by its former name.
    """

    def __new__(cls, *args: Any, **named: Any):
        check_arguments(cls.__name__, named, getattr(cls, "__dataclass_fields__", ()))
        return super().__new__(cls)

    @classmethod
    def defined_by(cls, name: str) -> type:
        """The class whose method of this name it has: its own, or the nearest that it extends."""
        return next(kind for kind in cls.__mro__ if name in vars(kind))

    def __post_init__(self):
        for name, option in options_of(type(self)).items():
            option.check(name, getattr(self, name))


@dataclasses.dataclass(frozen=True)
class WithArgument(Plugin):
    """A plug-in whose name in a configuration may go on after a colon, as 'text:books/*.txt'. spec: that whole name."""

    spec: str = dataclasses.field(default="", kw_only=True, metadata={"spec": True})

    @property
    def argument(self) -> str:
        """What follows the colon, '' where nothing does."""
        return self.spec.partition(":")[2]


def _fields(plugin: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(plugin)


def options_of(plugin: type) -> dict[str, Option]:
    """{name: Option} of the fields of a dataclass. A plain field accepts any value of the type of its default."""
    fields = [f for f in _fields(plugin) if "spec" not in f.metadata]
    fields = [f for f in fields if "option" in f.metadata or isinstance(f.default, PLAIN)]
    return {f.name: f.metadata.get("option") or _plain(f.default) for f in fields}


def parts_of(plugin: type) -> "dict[str, Registry]":
    """{name: registry} of the fields that hold plug-ins of another kind."""
    return {f.name: f.metadata["part"] for f in _fields(plugin) if "part" in f.metadata}


def _plain(default):
    kind = type(default)
    within = {int: ANY_COUNT, float: ANY_NUMBER}.get(kind, "")
    return Option(default, "", kind, within=within)


class Registry(dict[str, type[P]], Generic[P]):
    """The plug-ins of one kind, by name.

    Attributes:
        kind: for messages, e.g. 'loss'.
        base: the class that each plug-in must extend.
    """

    def __init__(self, kind: str, base: type[P], plugins: Mapping[str, type[P]]):
        super().__init__(plugins)
        self.kind, self.base = kind, base

    def is_users(self, name: str) -> bool:
        """Whether a name stands for a class of a user's own, so that finding it imports the user's module."""
        return ":" in name

    def find(self, name: str) -> type[P]:
        """The class of a name, or of a user's own `module:Class`. UserError: none, or not of this kind."""
        if not isinstance(name, str):
            return choose(self.kind, name, self)  # which refuses it
        if ":" not in name:
            if name not in self:
                raise UserError(f"unknown {self.kind} {name!r}: {nearest_or_own(name, self)}")
            return self[name]
        if not OWN.fullmatch(name):
            raise UserError(f"{self.kind} {name!r} is no name of a class: give module:Class")
        found, base = import_class(self.kind, name, self.base), full_name(self.base)
        if not (isinstance(found, type) and issubclass(found, self.base) and dataclasses.is_dataclass(found)):
            raise UserError(f"{self.kind} {name!r} is no {self.kind}: give a frozen dataclass that extends {base}")
        if unwritten := sorted(getattr(found, "__abstractmethods__", ())):
            raise UserError(f"{self.kind} {name!r} lacks the method {unwritten[0]}: write it as {base} describes it")
        for each in _fields(found):
            if each.default is dataclasses.MISSING:
                raise UserError(f"{self.kind} {name!r} has an option {each.name!r} without a default: give it one")
        return cast(type[P], found)

    def name_of(self, plugin: P) -> str:
        """The name of a plug-in in this registry, or `module:Class` if it is not listed."""
        names = [name for name, listed in self.items() if listed is type(plugin)]
        return names[0] if names else f"{type(plugin).__module__}:{type(plugin).__name__}"

    def options(self, name: str) -> dict[str, Option]:
        """{name: Option} of a plug-in. UserError as for `find`."""
        return options_of(self.find(name))

    def make(self, name: str, **options: Any) -> P:
        """Makes a plug-in. UserError for an unknown name or option, or a value out of its range."""
        plugin = self.find(name)
        known = [f.name for f in _fields(plugin)]
        for option in options:
            if option not in known:
                told = renamed_argument(option, known) or self._instead(option, known)
                raise UserError(f"{self.kind} {name!r} has no option {option!r}: {told}")
        return plugin(**options)

    def having(self, option: str) -> list[str]:
        """The names of the plug-ins of the package that have an option."""
        return [name for name, plugin in self.items() if option in options_of(plugin)]

    def _instead(self, option, known):
        """What to give for an option that a plug-in with the options `known` lacks."""
        has = f"it has {', '.join(known) or 'none'}"
        if having := self.having(option):
            return f"{has}; {', '.join(having)} {'have' if having[1:] else 'has'} it"
        return ": ".join(filter(None, (has, did_you_mean(option, known))))

    def pick(self, name: str, section: Mapping[str, Any]) -> P:
        """Makes a plug-in from a section of a configuration.

        Args:
            name: of the plug-in.
            section: {key: value}; keys that are not options of this plug-in are ignored. A part of another kind is made
                from the sub-section of its name.
        """
        plugin, values = self.find(name), {}
        parts = parts_of(plugin)
        for key in (f.name for f in _fields(plugin)):
            if key in section:
                value = section[key]
                values[key] = parts[key].pick(value["name"], value) if key in parts else value
        return plugin(**values)


class ArgumentRegistry(Registry[P]):
    """A Registry whose own names may go on after a colon: 'text:books/*.txt' is its plug-in 'text'. Its own names come
    before modules of a user's own. Its plug-ins extend WithArgument."""

    def is_users(self, name: str) -> bool:
        return ":" in name and name.partition(":")[0] not in self

    def find(self, name: str) -> type[P]:
        if not isinstance(name, str):
            return super().find(name)
        head = name.partition(":")[0]
        if not self.is_users(name):
            return choose(self.kind, head, self)
        if not OWN.fullmatch(name):
            raise UserError(f"unknown {self.kind} {head!r} of {name!r}: {nearest(head, self)}")
        try:
            return super().find(name)
        except UserError as error:
            module = head.partition(".")[0]
            if module not in sys.modules and importlib.util.find_spec(module) is None:
                raise UserError(f"{error}; or name one of the package: {nearest(head, self)}") from None
            raise

    def make(self, name: str, **options: Any) -> P:
        return super().make(name, **options, spec=name)

    def pick(self, name: str, section: Mapping[str, Any]) -> P:
        return super().pick(name, {**section, "spec": name})

    @contextlib.contextmanager
    def explaining(self, name: str) -> Iterator[None]:
        """Errors of what is done with a plug-in, as UserErrors.

        Where the name stands for a plug-in of this package, but could have meant a class of a user's own, the error
        says so. Any exception of a user's own code becomes one sentence with the plug-in's name.
        """
        try:
            yield
        except UserError as error:
            head, _, attribute = name.partition(":")
            if head in self and OWN.fullmatch(name) and _has_class(head, attribute):
                raise UserError(
                    f"{error}; {head!r} is a {self.kind} of this package, so for your class {attribute} rename its "
                    f"module {head}"
                ) from None
            raise
        except Exception as error:  # whatever a user's own code raises
            if not self.is_users(name):
                raise
            raise failure(f"{self.kind} {name!r} failed", error, file_of(name.partition(":")[0])) from error


def _has_class(module, name):
    """Whether the file of a module defines a class of this name. Nothing is imported."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # UnicodeDecodeError is a ValueError
        found = importlib.util.find_spec(module)
        origin = found and found.origin
        if origin and origin.endswith(".py"):
            with open(origin, encoding="utf-8") as file:
                return re.search(rf"^class {name}\b", file.read(), re.MULTILINE) is not None
    return False


def is_imported(name: str) -> bool:
    """Whether a plug-in of this name can be used without importing a module that this process has not imported."""
    return ":" not in name or name.partition(":")[0] in sys.modules
