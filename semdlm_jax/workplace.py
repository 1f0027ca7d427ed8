"""The folder in which the processes of a training work: one that they share, or copies of what an address holds."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from semdlm_jax import remote
from semdlm_jax.runtime.checkpoint_reader import DELETING, UNFINISHED
from semdlm_jax.runtime.distributed import WRITING, WRITTEN, tell_first
from semdlm_jax.runtime.processes import barrier, check_everywhere, check_on_process_0
from semdlm_jax.runtime.startup import restore_handlers

LEFT_OUT = UNFINISHED, DELETING  # parts of names that are of no use on a store


def is_shared(workdir: str | pathlib.Path) -> bool:
    """Whether all processes have this folder, and not each a copy of what an address holds."""
    return jax.process_count() == 1 or not remote.is_copy(workdir)


@contextlib.contextmanager
def opened(workdir: str | pathlib.Path) -> Iterator[str | pathlib.Path]:
    """The folder here, during the block.

    That of an address is a copy. Each of several processes has its own, and only that of process 0 is written to the
    store: the others wait at the end until all of it is there.

    Args:
        workdir: a path, or an address.

    Raises:
        UserError: on all processes: as `remote.working` raises it on process 0, or one of the others cannot copy.
    """
    if not remote.is_address(workdir):
        yield workdir
        return
    several, folders = jax.process_count() > 1, []
    with contextlib.ExitStack() as stack:

        def begin():
            folders.append(stack.enter_context(remote.working(workdir, leave_out=LEFT_OUT, at_once=several)))

        def copied():
            return folders[0] if folders else remote.local(workdir, again=True, leave_out=LEFT_OUT, may_be_empty=True)

        stack.callback(tell_first, WRITTEN)  # once all else here has ended
        check_on_process_0(begin)
        try:
            yield check_everywhere(copied)
        finally:
            # To leave at once would leave files unwritten. Several processes keep JAX's handlers, which ignore what
            # comes now: a request reaches them one after another, and the first may already write to the store.
            if not several:
                restore_handlers()
            tell_first(WRITING)
    if several:
        barrier("written to the store")
