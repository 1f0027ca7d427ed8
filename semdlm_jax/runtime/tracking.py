"""Sending the metrics of a run to Weights & Biases as well: python -m semdlm_jax.train --wandb=PROJECT."""

import contextlib
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular, write_text

NAME = "wandb.id"  # in the work directory: the id of the run at Weights & Biases


class Tracker:
    """A run at Weights & Biases, continued if the work directory was tracked before.

    Only process 0 sends anything; other processes may call every method. A failure after the start does not end the
    training: it is reported once, and nothing more is sent.
    """

    def __init__(self, project: str, workdir: str | Path, config: dict, tell: Callable[[str], None] | None = None):
        """UserError: Weights & Biases cannot be started, e.g. without a login."""
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
        """Sends {name: number} of a step."""
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
    """The id of the run there, the same at every start."""
    check_regular(path)
    with contextlib.suppress(OSError, ValueError):
        if found := path.read_text(encoding="utf-8").strip():
            return found
    write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _cause(error):
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
