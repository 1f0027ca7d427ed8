"""Numbers of a run to Weights & Biases, beside its own files: python -m semdlm_jax.train --wandb=PROJECT."""

import contextlib
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular, write_text

NAME = "wandb.id"  # in the work directory: which run there this is


class Tracker:
    """A run of a project, continued where the work directory was tracked before. Only process 0 tracks; the others may
    call every method. A failure after the begin ends no training: it is told once, and the rest is not sent."""

    def __init__(self, project: str, workdir: str | Path, config: dict, tell: Callable[[str], None] | None = None):
        """UserError: it does not begin, e.g. because nobody is logged in."""
        self._run = None
        self._tell = tell or (lambda line: print(line, file=sys.stderr))
        if jax.process_index() != 0:
            return
        import wandb  # pyright: ignore[reportMissingImports]  # an extra: imported only where it is asked for

        path = Path(workdir)
        try:
            self._run = wandb.init(
                project=project, id=_identity(path / NAME), name=path.name, dir=str(path), config=config, resume="allow"
            )
        except Exception as error:  # whatever its network, its account or its settings say
            raise UserError(
                f"--wandb={project}: Weights & Biases does not begin ({_cause(error)}): log in by `wandb login`, or "
                "set WANDB_MODE=offline, or leave --wandb out"
            ) from None

    def write(self, step: int, values: dict[str, float]) -> None:
        """values: numbers of `step` by name."""
        if self._run is None:
            return
        try:
            self._run.log(values, step=step)
        except Exception as error:
            self._tell(f"note: Weights & Biases takes nothing more ({_cause(error)}): the run's own files have it all")
            self._run = None

    def close(self) -> None:
        """Nothing may be written after."""
        run, self._run = self._run, None
        if run is not None:
            with contextlib.suppress(Exception):
                run.finish()


def _identity(path):
    """What names the run there, the same at every start of it."""
    check_regular(path)
    with contextlib.suppress(OSError, ValueError):
        if found := path.read_text(encoding="utf-8").strip():
            return found
    write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _cause(error):
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
