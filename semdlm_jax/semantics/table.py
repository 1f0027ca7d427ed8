"""The neighbor table on disk, bound to the vocabulary it was built for."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from semdlm_jax import remote
from semdlm_jax.errors import UserError
from semdlm_jax.former import TABLE_MADE, rename
from semdlm_jax.neighbor_lists import InvertedIndex, invert
from semdlm_jax.storage import PathLike, check_regular, replacing

COMMAND = "python -m semdlm_jax.semantics.build --config=…"
TABLE, FORMER_TABLE = "neighbors.npz", "neighbours.npz"  # the second: of earlier versions
IN = "in_"  # before the names of InvertedIndex, in the file


class Table(NamedTuple):
    """The neighbors of every token.

    Args:
        ids: [V, K] int32, nearest first, neighbor_lists.MISSING behind the last.
        similarities: [V, K] float32, 0 where missing.
        embeddings: [V, E] float32, what the similarities are cosines of: rows of unit length, or zero for a token
            without a meaning.
        inverted: the index of ids. `save_table` makes it anew and ignores what is here; None in files of earlier
            versions.
        partitions: [P, V] int32, the block of every token on P levels from fine to coarse, as `kernels.Vocabulary` has
            them; None where none were built, and in files of earlier versions.
    """

    ids: np.ndarray
    similarities: np.ndarray
    embeddings: np.ndarray
    inverted: InvertedIndex | None = None
    partitions: np.ndarray | None = None


class Notes(NamedTuple):
    """What a file of a table also holds, so that it can be shown without the data it was built from.

    Args:
        pieces: V strings as the vocabulary spells them.
        counts: [V] int64 occurrences in the training split, zeros without one.
        valid: [V] bool, what the unigram prior of Eq. 119 may produce.
    """

    pieces: tuple[str, ...]
    counts: np.ndarray
    valid: np.ndarray


NO_NOTES = Notes((), np.zeros(0, np.int64), np.zeros(0, bool))


def table_path(config: Any) -> pathlib.Path:
    """Where a configuration has its table: at semantics.table, or beside its prepared corpus."""
    if config.semantics.table:
        return pathlib.Path(config.semantics.table)
    directory = remote.local(config.data.directory)
    return next((directory / name for name in (TABLE, FORMER_TABLE) if (directory / name).exists()), directory / TABLE)


def save_table(path: PathLike, table: Table, fingerprint: str, meta: dict[str, Any], notes: Notes = NO_NOTES) -> Table:
    """Writes a table as an .npz that appears whole or not at all.

    Args:
        path: of the file.
        table: what is written.
        fingerprint: the tokenizer's.
        meta: JSON values, how the table was built.
        notes: what the file also holds.

    Returns:
        The table with its inverted index.

    Raises:
        UserError: it cannot be written.
    """
    inverted = invert(np.asarray(table.ids))
    table = table._replace(inverted=inverted)
    more = {IN + name: array for name, array in inverted._asdict().items()}
    if table.partitions is not None:
        more["partitions"] = np.asarray(table.partitions, np.int32)
    with replacing(path, "wb") as file:
        np.savez_compressed(
            file,
            ids=np.asarray(table.ids, np.int32),
            similarities=np.asarray(table.similarities, np.float32),
            **more,
            embeddings=np.asarray(table.embeddings, np.float32),
            fingerprint=np.array(fingerprint),
            meta=np.array(json.dumps(meta)),
            pieces=np.array(json.dumps(list(notes.pieces))),
            counts=np.asarray(notes.counts, np.int64),
            valid=np.asarray(notes.valid, bool),
        )
    return table


def load_table(path: PathLike, fingerprint: str) -> tuple[Table, dict[str, Any]]:
    """(Table, meta) of the file. UserError: missing, damaged, or built for a vocabulary with another fingerprint."""
    table, found, meta = read_table(path)
    if found != fingerprint:
        raise UserError(
            f"{path}: neighbors of vocabulary {found[:12]}, but the tokenizer is {fingerprint[:12]}: "
            f"rebuild with {COMMAND}"
        )
    return table, meta


def read_table(path: PathLike) -> tuple[Table, str, dict[str, Any]]:
    """(Table, fingerprint, meta) of any table. UserError: missing, damaged or something else."""
    check_regular(path)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # np.load alone leaks a damaged file
            written = IN + "rows" in file  # not by earlier versions
            inverted = InvertedIndex(*(file[IN + name] for name in InvertedIndex._fields)) if written else None
            partitions = file["partitions"] if "partitions" in file else None
            table = Table(file["ids"], file["similarities"], file["embeddings"], inverted, partitions)
            two_axes = [array for array in (table.ids, table.embeddings, partitions) if array is not None]
            _ = [array.shape[1] for array in two_axes]  # raises for arrays of one axis
            meta = rename(TABLE_MADE, json.loads(str(file["meta"])))
            found = table, str(file["fingerprint"]), meta
    except FileNotFoundError:
        raise UserError(f"{path}: no neighbor table there: build it with {COMMAND}") from None
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"{path} cannot be read ({cause}): give a neighbor table, built with {COMMAND}") from None
    except Exception:  # whatever numpy and zipfile raise for other bytes
        raise UserError(f"{path} is no neighbor table, or a damaged one: build one with {COMMAND}") from None
    return found


def read_notes(path: PathLike) -> Notes:
    """The Notes that `save_table` was given. UserError: the file holds none, or cannot be read."""
    read_table(path)  # raises for a missing or damaged file
    with np.load(path, allow_pickle=False) as file:
        if "valid" in file and len(pieces := json.loads(str(file["pieces"]))):
            return Notes(tuple(pieces), file["counts"], file["valid"])
    raise UserError(f"{path}: written without the pieces of its vocabulary: rebuild with {COMMAND}")
