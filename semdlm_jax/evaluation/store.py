"""Work of an evaluation that is kept: sections in the report itself, and what is half finished in a folder beside it.

A piece of work is known by an *identity*, a JSON value of all that its result depends on: the model, the text, the
options. Only a result of the same identity is ever taken up again.
"""

import contextlib
import json
import pathlib
import shutil
import time
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from semdlm_jax.evaluation.report import SCHEMA, Section
from semdlm_jax.storage import digest_of, replacing

SAVE_SECONDS = 20.0


class Kept:
    """Arrays of a piece of work, part by part, in one file. path: None keeps nothing."""

    def __init__(self, path: pathlib.Path | None):
        self._path, self._saved_at = path, time.monotonic()

    def load(self) -> list[list[np.ndarray]]:
        """The arrays of each part that was saved, in order; [] where nothing was, or where it is damaged."""
        if self._path is None or not self._path.exists():
            return []
        try:
            with np.load(self._path) as file:
                sizes = file["sizes"]
                return [[file[f"{part}_{i}"] for i in range(size)] for part, size in enumerate(sizes)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return []

    def save(self, parts: list[list[np.ndarray]], *, at_once: bool = False) -> None:
        """Saves all parts so far; not at once, but at most once in SAVE_SECONDS."""
        if self._path is None or not at_once and time.monotonic() - self._saved_at < SAVE_SECONDS:
            return
        arrays: dict[str, Any] = {f"{part}_{i}": x for part, found in enumerate(parts) for i, x in enumerate(found)}
        arrays["sizes"] = np.array([len(found) for found in parts])
        self._path.parent.mkdir(exist_ok=True)
        with replacing(self._path, "wb") as file:
            np.savez(file, **arrays)
        self._saved_at = time.monotonic()


class Store:
    """The kept work of a report.

    Args:
        output: the file of the report; None keeps nothing.
    """

    def __init__(self, output: str | pathlib.Path | None):
        self._output = None if output is None else pathlib.Path(output)

    @property
    def folder(self) -> pathlib.Path | None:
        """Of what is half finished."""
        return None if self._output is None else self._output.with_name(f"{self._output.name}.parts")

    def sections(self) -> dict[str, dict]:
        """Those of the report as it is, as JSON; {} where it is none of this schema, or damaged."""
        if self._output is None:
            return {}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._output.read_text(encoding="utf-8"))
            sections = found.get("sections") if isinstance(found, dict) and found.get("schema") == SCHEMA else None
            if isinstance(sections, dict):
                return {name: section for name, section in sections.items() if isinstance(section, dict)}
        return {}

    def section(self, name: str, identity: Any, write: Callable[[], Section], tell: Callable[[str], None]) -> dict:
        """A section as JSON with its identity: the report's own if that is the same, which is told, else a new one."""
        found, mark = self.sections().get(name), digest_of(identity)
        if found is not None and found.get("identity") == mark:
            tell(f"{name}: as in {self._output}, for the same model, text and options")
            return found
        return {"identity": mark, **write().as_json()}

    def kept(self, name: str, identity: Any) -> Kept:
        """The half-finished work of this name and identity."""
        folder = self.folder
        return Kept(None if folder is None else folder / f"{name}-{digest_of(identity)[:16]}.npz")

    def remember(self, name: str, identity: Any, compute: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
        """Arrays that are computed once."""
        kept = self.kept(name, identity)
        found = kept.load()
        if not found:
            found = [compute()]
            kept.save(found, at_once=True)
        return found[0]

    def clear(self) -> None:
        """Removes what is half finished."""
        if self.folder is not None and self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
