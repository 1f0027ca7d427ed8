"""Size and CRC-32 of every file in a folder: array files have no checksum, so damage could remain unnoticed."""

import hashlib
import json
import stat
import zlib
from pathlib import Path

from semdlm_jax.storage import check_regular

NAME = "integrity.json"
BLOCK = 1 << 24  # bytes read at a time


def _measure(path):
    size = crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return [size, crc]


def seal(folder: Path, exclude: tuple[str, ...] = ()) -> None:
    """Writes the sizes and checksums of all files under `folder`, except those named in `exclude`, into it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = {name: _measure(folder / name) for name in names if name not in exclude}
    (folder / NAME).write_text(json.dumps(manifest, indent=0))


def _is_regular(path):
    """Whether it is a regular file; reading a pipe could block."""
    return stat.S_ISREG(path.stat().st_mode)


def damage(folder: Path, under: str = "", contents: bool = True) -> str | None:
    """What is wrong with a folder, in a few words; None if every sealed file is unchanged.

    A folder without a readable seal counts as damaged.

    Args:
        folder: with the seal.
        under: only files whose names begin so are checked.
        contents: whether checksums are checked too, and not only sizes.
    """
    try:
        if not _is_regular(folder / NAME):
            return f"{NAME} is no file"
        manifest = json.loads((folder / NAME).read_text())
        sealed = {str(name): [int(size), int(crc)] for name, (size, crc) in manifest.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"{NAME} is missing or unreadable"
    for name, (size, crc) in sealed.items():
        if not name.startswith(under):
            continue
        try:
            if not _is_regular(folder / name):
                return f"{name} is no file"
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes instead of {size}"
            if contents and _measure(folder / name) != [size, crc]:
                return f"{name} has changed since it was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def digest(folder: Path) -> str:
    """SHA-256 of the seal, in hexadecimal: identifies the exact contents of `folder`."""
    check_regular(folder / NAME)
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
