"""Results as lines of JSON, appended to a file as soon as each is known."""

import json
import os
import pathlib
import sys


def read_results(*paths: str | os.PathLike[str]) -> list[dict]:
    """The lines of files that exist; a line that was cut off is no result."""
    results = []
    for path in map(pathlib.Path, paths):
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
            try:
                results.append(json.loads(line))
            except ValueError:
                print(f"note: {path}, line {number} is cut off and not read", file=sys.stderr, flush=True)
    return results


def append_result(path: pathlib.Path, result: dict) -> None:
    """Appends a line, on one of its own also where the last one was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size
    with path.open("a") as file:
        file.write("\n" * bool(cut) + json.dumps(result) + "\n")
