"""The neighbour table on disk, bound to the vocabulary it was built for."""

import json
import os
import pathlib
import zipfile

import numpy as np

from semdlm_jax.errors import UserError

COMMAND = "python -m semdlm_jax.semantics.build --config=…"


def save_table(path, ids, similarities, fingerprint, meta):
    """Writes the table to an .npz in one rename.

    ids: [V, K] int, nearest first, -1 where missing. similarities: [V, K] float. fingerprint: the tokenizer's.
    meta: dict of JSON values, how it was built.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(
                file,
                ids=np.asarray(ids, np.int32),
                similarities=np.asarray(similarities, np.float32),
                fingerprint=np.array(fingerprint),
                meta=np.array(json.dumps(meta)),
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_table(path, fingerprint):
    """Reads (ids [V, K] int32, similarities [V, K] float32) back.

    UserError: missing, damaged, or built for a vocabulary with another fingerprint.
    """
    ids, similarities, found, _ = read_table(path)
    if found != fingerprint:
        raise UserError(
            f"{path}: neighbours of vocabulary {found[:12]}, but the tokenizer is {fingerprint[:12]}: "
            f"rebuild with {COMMAND}"
        )
    return ids, similarities


def read_table(path):
    """(ids, similarities, fingerprint, meta) of any table. UserError: missing or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # np.load alone leaks a damaged file
            table = file["ids"], file["similarities"], str(file["fingerprint"]), json.loads(str(file["meta"]))
    except FileNotFoundError:
        raise UserError(f"{path}: no neighbour table there: build it with {COMMAND}") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable neighbour table ({error}): rebuild with {COMMAND}") from None
    return table
