"""Code of a user's own: its import, and one sentence with its class, file and line for whatever fails in it.

my_kernels:Mix failed in build (NameError: name 'prio' is not defined, my_kernels.py line 14): mend its code
"""

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from semdlm_jax.errors import UserError, nearest

LONGEST = 300  # characters of the message of an exception that is passed on
PACKAGE = __name__.partition(".")[0]


class UsersCode:
    """Base of the classes that users extend. A method of a subclass outside this package raises UserErrors alone: one
    that names it, with file and line, in the place of any other exception, and where RETURNS finds its result wrong.

    Attributes:
        RETURNS: {method: a function of its result and its arguments}, which returns '' or 'a float, and not …', what is
            wrong with the result. Results of generators are not seen.
    """

    RETURNS: ClassVar[Mapping[str, Callable[..., str]]] = {}

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] == PACKAGE:
            return
        owner = f"{cls.__module__}:{cls.__name__}"
        for name, member in list(vars(cls).items()):
            if name.startswith("_") and name != "__post_init__":
                continue
            if inspect.isfunction(member):
                setattr(cls, name, _guarded(member, owner, name))
            elif isinstance(member, property) and member.fget:
                setattr(cls, name, property(_guarded(member.fget, owner, name), doc=member.__doc__))


def _guarded(method, owner, name):
    file = inspect.unwrap(method).__code__.co_filename

    @functools.wraps(method)
    def guarded(self, *given, **named):
        try:
            found = method(self, *given, **named)
        except UserError:
            raise
        except Exception as error:  # whatever a user's own code raises
            raise failure(f"{owner} failed in {name}", error, file) from error
        check = self.RETURNS.get(name)
        problem = check(found, *given) if check and not named else ""
        if problem:
            raise UserError(f"{owner}: its {name} returns {problem}")
        return found

    return guarded


def defined_with(kind: type, name: str, *others: str) -> bool:
    """Whether what a class says in one method holds for the others: no class that extends the one which defines it
    defines one of these anew."""

    def place(method):
        return next(index for index, base in enumerate(kind.__mro__) if method in vars(base))

    return all(place(name) <= place(other) for other in others if hasattr(kind, other))


def failure(what: str, error: BaseException, file: str | None) -> UserError:
    """An exception of a user's own code as a UserError. what: failed. file: the path of that code, if it is known."""
    return UserError(f"{what} ({_cause(error, file)}): mend its code")


def _cause(error, file):
    """The exception in one line, with the line of the file at which it was raised or passed."""
    said = " ".join(str(error).partition("\n\n")[0].split())
    said = f"{type(error).__name__} {said}".strip()
    if isinstance(error, SyntaxError) and error.filename and error.lineno:  # the line is in its words already
        return f"{type(error).__name__} {error.msg}, {os.path.basename(error.filename)} line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    said = said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
    return f"{said}, {os.path.basename(file)} line {lines[-1]}" if file and lines else said


def file_of(module: str) -> str | None:
    """The path of a module's source, None where there is none. The module itself is not imported."""
    try:
        found = sys.modules[module].__spec__ if module in sys.modules else importlib.util.find_spec(module)
    except (Exception, SystemExit):  # finding it imports its packages
        return None
    return found.origin if found is not None else None


def import_class(kind: str, name: str, base: type) -> Any:
    """What 'module:Class' names. UserError: the module is not there or fails, or has no such name.

    Args:
        kind: of the plug-in, for messages.
        name: module:Class.
        base: which the class extends.
    """
    path, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(path)
    except UserError as error:  # what this package says to it
        raise UserError(f"{kind} {name!r}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever the user's own module does
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{path}.".startswith(f"{missing}."):
            raise UserError(
                f"{kind} {name!r}: there is no module {missing} here: run where Python finds {path}.py, or add its "
                "folder to PYTHONPATH"
            ) from None
        if missing:
            raise UserError(
                f"{kind} {name!r}: its module imports {missing}, which is not here: install it, or add its folder to "
                "PYTHONPATH"
            ) from None
        raise failure(f"{kind} {name!r}: its module failed", error, file_of(path)) from None
    if not hasattr(module, attribute):
        raise UserError(f"{kind} {name!r}: {path} has no {attribute}: {_instead(module, attribute, base)}")
    return getattr(module, attribute)


def _instead(module, attribute, base):
    """What to give for a name that a module lacks."""
    found = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
    found = [name for name in found if vars(module)[name].__module__ == module.__name__]
    return nearest(attribute, found) if found else f"write a frozen dataclass that extends {full_name(base)}"


def full_name(kind: type) -> str:
    """package.module.Class."""
    return f"{kind.__module__}.{kind.__name__}"
