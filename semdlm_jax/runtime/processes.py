"""Decisions that all processes of one run take together."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from semdlm_jax.errors import StorageError, UserError
from semdlm_jax.runtime.paths import NAMED_DIFFERENCES

TOLD = 1000  # bytes of what a process says of its differences


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


def check_same(values: Mapping[str, Any]) -> None:
    """UserError, on all processes, unless each of them passes the same values, {name: anything that JSON or str holds}.

    Processes that compute different things would wait for one another forever, or give numbers of no configuration.
    """
    if jax.process_count() == 1:
        return
    mine = {name: json.dumps(value, default=str) for name, value in values.items()}
    digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    if (digests == digests[0]).all():
        return
    first = on_process_0(lambda: mine)
    other = [name for name in sorted({*mine, *first}) if mine.get(name) != first.get(name)][:NAMED_DIFFERENCES]
    told = "; ".join(
        f"{name} is {mine.get(name, 'absent')}, in process 0 {first.get(name, 'absent')}" for name in other
    )
    raise UserError(
        f"the processes of this run differ ({first_told(told)}): start the same command in each of them, on the same "
        "data"
    )


def first_told(text: str | None) -> str | None:
    """'process N: ' and the text of the first process that has one, on all of them; None if none has."""
    if jax.process_count() == 1:
        return text
    room = np.frombuffer((text or "").encode()[:TOLD].ljust(TOLD), np.uint8)
    every = [bytes(row).decode(errors="ignore").strip() for row in multihost_utils.process_allgather(room)]
    return next((f"process {index}: {found}" for index, found in enumerate(every) if found), None)


def check_everywhere(check: Callable[[], Any]) -> Any:
    """The result of `check()`, called on every process. A UserError of one of them is raised on all."""
    found = failed = None
    try:
        found = check()
    except UserError as error:
        failed = error
    told = first_told(None if failed is None else str(failed))
    disk = first_told("disk" if isinstance(failed, StorageError) else None)
    if failed is not None:
        raise failed
    if told is not None:
        raise (StorageError if disk else UserError)(told)
    return found


def on_host(array: Any) -> np.ndarray:
    """A whole array on every process, also one whose parts are on the devices of several: then all must call it."""
    if not is_held(array):
        return multihost_utils.process_allgather(array, tiled=True)
    # JAX keeps what it has copied to the host with an array, here with one that is soon gone.
    whole = isinstance(array, jax.Array) and array.is_fully_replicated
    return np.asarray(array.addressable_data(0) if whole else array)


def is_held(array: Any) -> bool:
    """Whether the whole array is on the devices of each process, so that `on_host` needs no other."""
    return not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated


def barrier(name: str) -> None:
    """Waits until every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
