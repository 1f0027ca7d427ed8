"""Results as lines of JSON, appended to a file as soon as each is known."""

import json
import os
import pathlib
import sys

from semdlm_jax.errors import UserError

_TOLD: set[tuple[pathlib.Path, int]] = set()  # lines that were told of: files are read again before every run


def read_results(*paths: str | os.PathLike[str]) -> list[dict]:
    """The lines of files that exist; a line that was cut off is no result. UserError: a file cannot be read."""
    results = []
    for path in map(pathlib.Path, paths):
        for number, line in enumerate(_read(path).splitlines(), 1):
            result = _object(line)
            if result is not None:
                results.append(result)
            elif (path, number) not in _TOLD:
                _TOLD.add((path, number))
                print(f"note: {path}, line {number} is cut off and not read", file=sys.stderr, flush=True)
    return results


def _read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"results in {path} cannot be read ({error.strerror}): name another file for them") from None


def _object(line):
    """The JSON object of a line; None if it holds none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def append_result(path: pathlib.Path, result: dict) -> None:
    """Appends a line, on one of its own also where the last one was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size
    with path.open("a") as file:
        file.write("\n" * bool(cut) + json.dumps(result) + "\n")
