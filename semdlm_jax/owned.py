"""Files that no output may replace: those of a run, of prepared data or of a portable model, and neighbor tables."""

import json
import os
import pathlib
import re
import zipfile

from semdlm_jax.storage import PathLike, check_regular

RUN_FILES = "config.json", "metrics.jsonl", "checkpoints", "tensorboard", ".training.lock"  # in its work directory
RECORDED = {"data", "training"}  # in every run's config.json
DATA_FILES = re.compile(r"meta\.json|.*\.npy|tokenizer\..*|vocab\.txt")
SHIPPED = {"format", "files"}  # in every portable model's portable.json
SEALED = {"fingerprint", "settings"}  # in every meta.json
TABLE = {"ids.npy", "similarities.npy", "fingerprint.npy"}  # in every neighbor table, an .npz


def ownership(path: PathLike, *, builds_tables: bool = False) -> str:
    """Why no output may replace the file at `path`, in words that follow the path; '' if it may.

    Args:
        path: of a file that is to be written; it need not exist.
        builds_tables: the output is a neighbor table, which may replace another one.

    Returns:
        'belongs to the run in FOLDER', 'is a neighbor table', and the like.
    """
    path = pathlib.Path(os.path.realpath(path))
    if DATA_FILES.fullmatch(path.name) and SEALED <= _keys(path.parent / "meta.json"):
        return f"belongs to the prepared data in {path.parent}"
    if SHIPPED <= _keys(path.parent / "portable.json"):
        return f"belongs to the portable model in {path.parent}"
    for folder in path.parents:
        if path.relative_to(folder).parts[0] in RUN_FILES and RECORDED <= _keys(folder / "config.json"):
            return f"belongs to the run in {folder}"
    return "is a neighbor table" if _is_table(path) and not builds_tables else ""


def _is_table(path):
    try:
        return path.is_file() and TABLE <= set(zipfile.ZipFile(path).namelist())  # a device or a pipe is no file
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _keys(path):
    """The keys of a JSON file; none if it holds no object."""
    try:
        check_regular(path)
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found) if isinstance(found, dict) else set()
