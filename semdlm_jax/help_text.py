"""What --help prints."""

import re
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from absl import flags

from semdlm_jax import keys
from semdlm_jax.options import flatten


def help_text(program: str, needs: Iterable[str], config: Any = None) -> str:
    """The text of --help: the docstring of the program, its flags, and the keys of the configuration that it needs.

    Flags come in the order of their definitions. A flag whose help begins with `[heading]` is listed under it.

    Args:
        program: whose flags are listed.
        needs: keys or sections of the configuration.
        config: whose values are listed, and the defaults where it differs; None for the defaults alone.
    """
    groups = {}
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        if (flag.help or "").startswith("Alias for --"):
            continue
        # absl puts an enum's values before its help.
        found = re.fullmatch(r"(?:<.*?>: )?(?:\[(.+?)\] )?(.*)", flag.help or "", re.DOTALL)
        heading, text = found.groups() if found else ("", "")
        values = getattr(flag.parser, "enum_values", None)
        kind = "|".join(values) if values else flag.flag_type().upper()
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={kind}"
        default = "" if flag.boolean or flag.value in (None, "") else f" Default: {flag.value}."
        groups.setdefault(heading or "", []).append(_entry(name, text + default))
    if "config" in flags.FLAGS:
        shown = "their defaults" if config is None else "the values of this configuration"
        groups[f"keys of the configuration, --config.KEY=VALUE, with {shown}"] = _key_entries(needs, config)
    parts = [(sys.modules["__main__"].__doc__ or "").strip()]
    parts += [f"{heading}:\n" * bool(heading) + "\n".join(entries) for heading, entries in groups.items()]
    return "\n\n".join(parts)


def _key_entries(needs, config):
    known = {key: keys.KEYS[key] for key in keys.below(needs)}
    if config is None:
        return [_entry(f"{key}={option.default}", option.describe()) for key, option in known.items()]
    values = flatten(config)
    known |= keys.users_options(config, {key.partition(".")[0] for key in known})
    notes = {key: "" if values[key] == o.default else f"; default: {o.default}" for key, o in known.items()}
    return [_entry(f"{key}={values[key]}", option.describe() + notes[key]) for key, option in known.items()]


def _entry(name, text):
    return "\n".join([f"  {name}", *textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)])
