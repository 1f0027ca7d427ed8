"""Size and CRC-32 of every file in a folder: array files carry no checksum of their own, so rot could pass unseen."""

import json
import zlib

NAME = "integrity.json"
BLOCK = 1 << 24  # bytes read at a time


def _measure(path):
    size = crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return [size, crc]


def seal(folder, exclude=()):
    """Writes the sizes and checksums of all files under `folder`, except those named in `exclude`, into it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = {name: _measure(folder / name) for name in names if name not in exclude}
    (folder / NAME).write_text(json.dumps(manifest, indent=0))


def damage(folder, under=""):
    """What is wrong with `folder` in a few words, or None when every sealed file (below `under`) is as it was.

    A folder without a seal, or with one that cannot be read, counts as damaged.
    """
    try:
        manifest = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return f"{NAME} is missing or unreadable"
    for name, (size, crc) in manifest.items():
        path = folder / name
        if not name.startswith(under):
            continue
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if _measure(path) != [size, crc]:
            return f"{name} has changed since it was written"
    return None
