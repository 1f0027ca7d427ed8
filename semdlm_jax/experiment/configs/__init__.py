"""The configurations that come with the package, by name: --config=lm1b or --config=lm1b:mdlm, in any directory."""

import os
import pkgutil

from semdlm_jax.errors import UserError, did_you_mean


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(given: str) -> str:
    """The path of the configuration file that `given` stands for: one of `names()`, or a path itself.

    UserError: it is neither.
    """
    if given in names():
        return os.path.join(__path__[0], f"{given}.py")
    if not os.path.isfile(given):
        known = f"or a name that comes with the package: {', '.join(names())}"
        mend = did_you_mean(given, names()) or f"give one, {known}"
        if os.path.isfile(f"{given}.py"):
            mend = f"did you mean {given}.py?"
        raise UserError(f"--config={given}: no such file: {mend}")
    return given
