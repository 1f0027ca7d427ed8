"""The configuration recorded in a work directory: written at the first start and compared at every later one."""

import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import jax

from semdlm_jax.errors import UserError
from semdlm_jax.former import TABLE_MADE, upgrade_config
from semdlm_jax.keys import SECTIONS
from semdlm_jax.options import flatten, shown
from semdlm_jax.runtime.paths import NAMED_DIFFERENCES, differences, differing_keys
from semdlm_jax.storage import check_regular, storage_errors, write_text

CONFIG = "config.json"
# The record also holds: digests of the training data; how the neighbor table was made; absolute paths of the data; the
# run whose weights it started with; and changes made after the first start.
TRAINED_ON, PLACES, PARENT, HISTORY = "trained_on", "places", "parent", "history"
BESIDE = (TRAINED_ON, TABLE_MADE, PLACES, PARENT, HISTORY)


def read_config(workdir: str | Path) -> dict:
    """The nested dict recorded in `workdir`/config.json, with the names and keys of this version.

    Raises:
        UserError: there is no such file, or it is not a record.
    """
    path = Path(workdir) / CONFIG
    check_regular(path)
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{workdir} holds no {CONFIG}: give the work directory of a training run") from None
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"{path} cannot be read ({cause}): give the work directory of a training run") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON: restore it, or use another workdir") from None
    if not isinstance(recorded, dict):
        raise UserError(f"{path} holds {shown(recorded)}, which is no configuration: restore it")
    try:
        for name in (*SECTIONS, *BESIDE):
            kind = {"seed": int, HISTORY: list}.get(name, dict)
            if not isinstance(recorded.get(name, kind()), kind):
                raise UserError(f"{name} is {shown(recorded[name])}")
        return upgrade_config(recorded)
    except UserError as error:
        raise UserError(f"{path} is damaged, {error}: restore it") from None


def find_config(workdir: str | Path) -> dict | None:
    """As `read_config`; None if nothing is recorded yet."""
    return read_config(workdir) if os.path.exists(Path(workdir) / CONFIG) else None


def compare_config(workdir: str | Path, config_dict: dict, free: Iterable[str] = ()) -> dict | None:
    """Compares a configuration with the recorded one.

    Args:
        workdir: the work directory.
        config_dict: the configuration, a nested dict.
        free: dotted keys or sections that may differ.

    Returns:
        The record, as `read_config` gives it; None if nothing is recorded yet.

    Raises:
        UserError: other keys differ; the message names them.
    """
    recorded = find_config(workdir)
    if recorded is not None:
        config = json.loads(json.dumps(config_dict))  # turns tuples into lists, as in the file
        here, there = flatten(upgrade_config(config)), flatten(recorded)
        if differing := differences(here, there, free):
            raise UserError(
                f"{workdir} holds a run of another config ({differing}): "
                f"{_way_back(here, there, differing_keys(here, there, free))}, or use another workdir, where "
                f"--init_from={workdir} begins with its weights"
            )
    return recorded


def _way_back(here, there, keys):
    """How to give the recorded values: the flags, unless they are too many."""
    if len(keys) > NAMED_DIFFERENCES or not all(key in here and key in there for key in keys):
        return "go back to it"
    return f"go on with {shlex.join(f'--config.{key}={there[key]}' for key in keys)}"


def write_config(workdir: str | Path, config_dict: dict, free: Iterable[str] = ()) -> dict:
    """Writes `workdir`/config.json at the first start of a run; compares with it at every later start.

    Args and errors are those of `compare_config`.

    Returns:
        The record. A later start does not change it.
    """
    recorded = compare_config(workdir, config_dict, free)
    if recorded is None:
        recorded = config_dict
        replace_config(workdir, recorded)
    return recorded


def replace_config(workdir: str | Path, config: dict) -> None:
    """Replaces the record, whole or not at all, on process 0. UserError: the directory cannot be written."""
    if jax.process_index() == 0:
        with storage_errors(workdir):
            Path(workdir).mkdir(parents=True, exist_ok=True)
        write_text(Path(workdir) / CONFIG, json.dumps(config, indent=2) + "\n")
