"""Files of a run or of prepared data, known by where they lie: nothing else is written in their place."""

import json
import os
import pathlib
import re

from semdlm_jax.storage import PathLike, check_regular

RUN_FILES = "config.json", "metrics.jsonl", "checkpoints", "tensorboard", ".training.lock"  # in its work directory
RECORDED = {"data", "training"}  # in every run's config.json
DATA_FILES = re.compile(r"meta\.json|.*\.npy|tokenizer\..*|vocab\.txt")
SHIPPED = {"format", "files"}  # in every portable model's portable.json
SEALED = {"fingerprint", "settings"}  # in every meta.json


def owner_of(path: PathLike) -> str:
    """Whose file is at `path`, or would be: 'the run in FOLDER', 'the prepared data in FOLDER', or '' nobody's."""
    path = pathlib.Path(os.path.realpath(path))
    if DATA_FILES.fullmatch(path.name) and SEALED <= _keys(path.with_name("meta.json")):
        return f"the prepared data in {path.parent}"
    if SHIPPED <= _keys(path.with_name("portable.json")):
        return f"the portable model in {path.parent}"
    for folder in path.parents:
        if path.relative_to(folder).parts[0] in RUN_FILES and RECORDED <= _keys(folder / "config.json"):
            return f"the run in {folder}"
    return ""


def _keys(path):
    """The keys of a JSON file, none where it is no object."""
    try:
        check_regular(path)
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found) if isinstance(found, dict) else set()
