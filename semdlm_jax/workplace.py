"""The folder in which the processes of a training work: one that they share, or copies of what an address holds."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from semdlm_jax import remote
from semdlm_jax.runtime.checkpoint_reader import DELETING, UNFINISHED
from semdlm_jax.runtime.processes import barrier, check_on_process_0
from semdlm_jax.runtime.startup import restore_handlers

LEFT_OUT = UNFINISHED, DELETING  # parts of names that are of no use on a store


@contextlib.contextmanager
def opened(workdir: str | pathlib.Path) -> Iterator[tuple[str | pathlib.Path, bool]]:
    """(the folder here, whether all processes share it), during the block.

    That of an address is a copy. Each of several processes has its own, and only that of process 0 is written to the
    store: the others wait at the end until all of it is there.

    Args:
        workdir: a path, or an address.

    Raises:
        UserError: on all processes, as `remote.working` raises it on process 0; or the copy of this process fails.
    """
    if not remote.is_address(workdir):
        yield workdir, True
        return
    several, folders = jax.process_count() > 1, []
    with contextlib.ExitStack() as stack:

        def begin():
            folders.append(stack.enter_context(remote.working(workdir, leave_out=LEFT_OUT, at_once=several)))

        check_on_process_0(begin)
        try:
            yield folders[0] if folders else remote.local(workdir, True, LEFT_OUT, may_be_empty=True), not several
        finally:
            restore_handlers()  # to leave at once would leave files unwritten
    if several:
        barrier("written to the store")
