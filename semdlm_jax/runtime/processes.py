"""Decisions that all processes of one run take together."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from semdlm_jax.errors import StorageError, UserError


def on_process_0(compute: Callable[[], Any]) -> Any:
    """The JSON value of `compute()`, evaluated on process 0 and sent to all.

    compute: must return an error instead of raising it; otherwise the other processes would wait forever.
    """
    if jax.process_count() == 1:
        return compute()
    text = json.dumps(compute()).encode() if jax.process_index() == 0 else b""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(text.ljust(length), np.uint8))))


def check_on_process_0(check: Callable[[], None]) -> None:
    """Calls `check` on process 0; a UserError that it raises there is raised on all."""

    def look():
        try:
            check()
        except UserError as error:
            return [isinstance(error, StorageError), str(error)]

    if found := on_process_0(look):
        disk, text = found
        raise (StorageError if disk else UserError)(text)


def barrier(name: str) -> None:
    """Waits until every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
