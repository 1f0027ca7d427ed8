"""Encoding text in several processes: the same ids in the same order, whatever their number."""

import collections
import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from semdlm_jax.data.documents import Part
from semdlm_jax.data.packing import token_dtype
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.errors import UserError

AT_HOME = 4  # batches that are encoded before others are asked: a small text is done before they have started
AHEAD = 2  # batches for each process that wait, or have come too early
# What `prepare` imports, but not itself: it is what each process believes to run.
PRELOADED = [__name__, *map("semdlm_jax.{}".format, ("cli", "data.given", "data.lm1b", "data.prepared"))]

_tokenizer: Tokenizer | None = None  # of a process that encodes


def all_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encoded(
    batches: Iterable[list[Part]], tokenizer: Tokenizer, workers: int = 1
) -> Generator[tuple[list[Part], Sequence[np.ndarray]], None, None]:
    """(batch, the ids [N_i] of each of its parts) of all batches, in order.

    Memory holds AHEAD * workers batches, and in each process the tokenizer and one. To be closed, also after a failure.

    Args:
        batches: of parts of text.
        tokenizer: which is copied to every process.
        workers: processes that encode beside this one, which reads and writes; 1: this one does it all.

    Raises:
        UserError: one of them died, or the tokenizer fails or cannot be copied.
    """
    batches = iter(batches)
    for batch in batches if workers == 1 else itertools.islice(batches, AT_HOME):
        yield batch, tokenizer.encode_batch([part.text for part in batch])
    for first in batches:
        with _processes(tokenizer, workers) as pool, _explaining_death(workers):
            waiting: collections.deque[tuple[list[Part], Future]] = collections.deque()
            for batch in itertools.chain([first], batches):
                waiting.append((batch, pool.submit(_encode, [part.text for part in batch])))
                if len(waiting) > AHEAD * workers:
                    yield _taken(waiting)
            while waiting:
                yield _taken(waiting)


def _taken(waiting):
    batch, future = waiting.popleft()
    return batch, parted(future.result())


@contextlib.contextmanager
def _processes(tokenizer, workers) -> Iterator[ProcessPoolExecutor]:
    copied = copy_of(tokenizer)
    # Neither a copy of this process, which may run threads, nor one that imports everything anew.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    pool = ProcessPoolExecutor(workers, context, _begin, (copied,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def copy_of(tokenizer: Tokenizer) -> bytes:
    """A tokenizer for other processes, pickled. UserError: it cannot be."""
    try:
        return pickle.dumps(tokenizer)
    except Exception as error:  # of a user's own tokenizer, whatever it holds
        name, cause = type(tokenizer).__name__, " ".join(str(error).split())
        raise UserError(f"{name} cannot be copied to other processes ({cause}): give --workers=1") from None


@contextlib.contextmanager
def _explaining_death(workers):
    try:
        yield
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} processes that encode text has died, as one does that needs more memory than there is: "
            "give the same command again, with a smaller --workers if there is too little memory"
        ) from None


def _begin(copied):
    """What each process does first."""
    global _tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which all get: the first process ends the others
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # here every process is a core
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # or it would outlive a kill
    _tokenizer = pickle.loads(copied)


def _encode(texts):
    assert _tokenizer is not None
    return joined(_tokenizer.encode_batch(texts), _tokenizer)


def joined(found: Sequence[np.ndarray], tokenizer: Tokenizer) -> tuple[np.ndarray, list[int]]:
    """(the ids of some texts [N], how many are of each), quick to pickle."""
    return np.concatenate(found).astype(token_dtype(tokenizer.vocab_size)), [len(ids) for ids in found]


def parted(pair: tuple[np.ndarray, list[int]]) -> list[np.ndarray]:
    """The ids of each text: inverts `joined`."""
    ids, sizes = pair
    return np.split(ids, np.cumsum(sizes)[:-1])
