"""Sizes and digests of files, stored when the files are written and checked whenever they are opened."""

import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping

from semdlm_jax.errors import UserError

WHOLE = 2**26  # bytes of a file that is read to its end at every check; of a larger one, a sample
BLOCK, BLOCKS = 2**16, 256  # bytes, and how many of them are a sample, from head to tail


def seal_of(path: pathlib.Path) -> dict:
    """{'bytes', 'sha256'} of a file; and 'sample', the digest of its BLOCKS blocks, of one larger than WHOLE."""
    size = os.path.getsize(path)
    seal = {"bytes": size, "sha256": _digest(_everything(path))}
    return seal | ({"sample": _digest(_sample(path, size))} if size > WHOLE else {})


def check_seals(directory: pathlib.Path, seals: Mapping[str, Mapping], whole: bool = False) -> None:
    """Checks that files are as their seals say.

    Args:
      directory: where the files are.
      seals: {name: what `seal_of` returned}.
      whole: read large files to their ends, and want every file. Else a missing file is left to whoever reads it, as
        some can be made again.

    Raises:
      UserError: without a mend; it names the first file that differs.
      OSError: a file cannot be read.
      KeyError, TypeError: `seals` are none.
    """
    for name, seal in seals.items():
        path = directory / name
        if not (whole or path.is_file()):
            continue
        size, wanted = os.path.getsize(path), seal["bytes"]
        if size != wanted:
            raise UserError(f"{name} has {size:,} bytes where {wanted:,} were written")
        sampled = "sample" in seal and not whole
        found = _digest(_sample(path, size) if sampled else _everything(path))
        if found != seal["sample" if sampled else "sha256"]:
            raise UserError(f"{name} has other contents than were written")


def _digest(chunks):
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _everything(path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            yield chunk


def _sample(path, size) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for index in range(BLOCKS):
            file.seek(index * (size - BLOCK) // (BLOCKS - 1))
            yield file.read(BLOCK)
