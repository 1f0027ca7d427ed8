"""Encoding text by Apache Beam, on any machines that share a file system: the same ids in the same order as on one.

The elements of the pipeline are only numbers. What each stands for, a task, lies in a file: which files of the corpus
to read, or the text itself where no other process can read it. Whoever takes a number reads, splits and encodes what
the task names and writes the text and its ids into a file of that number. The process that began the pipeline then
reads these files by their numbers, and so in the order of the corpus.
"""

import contextlib
import functools
import io
import logging
import os
import pathlib
import pickle
import secrets
import shlex
import shutil
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from semdlm_jax.data.documents import Corpus, Part, Shard, Streamed
from semdlm_jax.data.files import Skipped
from semdlm_jax.data.packing import BATCH_PARTS, batches, grouped
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.data.workers import copy_of, encoded, joined, parted
from semdlm_jax.errors import UserError, did_you_mean, nearest
from semdlm_jax.extras import require
from semdlm_jax.options import counted
from semdlm_jax.storage import replacing

TASK = 2**24  # bytes of files, or characters of text, that a task ends with
LARGE = 2**30  # bytes of a file for which others wait
FLAG = "--beam_options"
_EXAMPLE = "'--runner=FlinkRunner --flink_master=HOST:PORT'"
_Task = Callable[[Skipped], Iterable[Part]]


def words_of(options: str) -> list[str]:
    """The options of a command line, one by one. UserError: an open quote."""
    try:
        return shlex.split(options)
    except ValueError as error:
        raise UserError(f"{FLAG}={options} cannot be read ({error}): give options as {_EXAMPLE}") from None


def make_pipeline(options: Sequence[str]) -> Any:
    """An empty pipeline of Apache Beam.

    Args:
        options: of Beam, each '--name=value' or '--name'.

    Raises:
        UserError: Beam is not installed, has no such option or runner, or lacks an option that its runner needs.
    """
    require("apache_beam", use=FLAG)
    with _quiet():
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

        known = PipelineOptions([]).get_all_options().keys()
    if word := next((word for word in options if not word.startswith("--") or word == "--help"), None):
        raise UserError(f"{FLAG}: {word!r} is no option of Beam: give options as {_EXAMPLE}")
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):  # where the usage of all options would go
            given = PipelineOptions(list(options))
            unknown = given.get_all_options(retain_unknown_options=True).keys() - known
    except SystemExit:
        raise UserError(f"{FLAG}: {_line(told.getvalue().rpartition('error: ')[2])}: give another value") from None
    if unknown:
        name = min(unknown)
        mend = did_you_mean(f"--{name}", [f"--{one}" for one in known]) or f"give options as {_EXAMPLE}"
        raise UserError(f"{FLAG}: Beam has no option --{name}: {mend}")
    runner, names = given.view_as(StandardOptions).runner or "DirectRunner", StandardOptions.KNOWN_RUNNER_NAMES
    if "." not in runner and not {runner.lower(), f"{runner}runner".lower()} & {name.lower() for name in names}:
        raise UserError(f"{FLAG}: Beam has no runner {runner!r}: {nearest(runner, names)}")
    try:
        with _quiet():
            return apache_beam.Pipeline(options=given)
    except Exception as error:  # whatever a runner raises
        raise UserError(f"{FLAG}: {runner} does not take them ({_line(error)}): mend that") from None


@contextlib.contextmanager
def _quiet():
    """Without Beam's warnings of clouds that nobody has asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def check_options(options: Sequence[str] | None, workers: int | None) -> None:
    """UserError, before any work, where `make_pipeline` raises it or processes of this machine are asked for, too."""
    if options is None:
        return
    if workers is not None:
        raise UserError(f"--workers and {FLAG} exclude one another: give one of them")
    with contextlib.suppress(OSError):
        os.rmdir(make_pipeline(options).local_tempdir)


def beam_encoded(
    corpus: Corpus | Streamed,
    tokenizer: Tokenizer,
    folder: pathlib.Path,
    options: Sequence[str],
    tell: Callable[[str], None] = lambda line: None,
) -> Generator[tuple[list[Part], Sequence[np.ndarray]], None, None]:
    """(batch, the ids [N_i] of each of its parts) of all batches, in order, as `workers.encoded` has them.

    The disk holds the whole text and its ids until they are taken; memory, here and in each worker, a batch, or one
    task of a corpus without shards.

    Args:
        corpus: its shards are read by whoever encodes them; one without shards is read here.
        tokenizer: which is copied to every worker.
        folder: that all workers see under the same path.
        options: of `make_pipeline`.
        tell: takes a line of text on what is being done.

    Raises:
        UserError: of the first document that one process would have refused; a task or the pipeline failed.
    """
    place = folder.resolve() / f"beam-{secrets.token_hex(4)}"  # workers of a former attempt have another one
    (place / "failed").mkdir(parents=True)
    (place / "tokenizer").write_bytes(copy_of(tokenizer))
    count = 0
    for count, task in enumerate(_tasks(corpus), 1):
        (place / f"{count}.task").write_bytes(pickle.dumps(task))
    tell(f"{counted(count, 'task')} for the workers of Apache Beam{_large(corpus)}")
    cause = _run(make_pipeline(options), count, place) if count else ""
    if failed := _failed(place):
        raise pickle.loads((place / "failed" / str(min(failed))).read_bytes())
    if cause:
        raise UserError(f"the pipeline of Beam has failed ({cause}): mend that, or leave {FLAG} out")
    skipped = Skipped()
    for number in range(1, count + 1):
        with open(place / f"{number}.ids", "rb") as file:
            while (pair := pickle.load(file))[0] is not None:
                yield pair[0], parted(pair[1])
        skipped.add_all(pair[1])
        for kind in ("task", "ids"):
            (place / f"{number}.{kind}").unlink()
    shutil.rmtree(place)
    if corpus.shards is not None:
        corpus.skipped.clear()
        corpus.skipped.add_all(skipped)


def _failed(place):
    """Numbers of the tasks that have failed."""
    return [int(name) for name in os.listdir(place / "failed") if name.isdecimal()]


def _tasks(corpus) -> Iterator[_Task]:
    if corpus.shards is None:
        for parts in grouped(corpus.parts(), lambda part: len(part.text), TASK, TASK // 64):
            yield functools.partial(_given, parts)
        return
    for shards in grouped(corpus.shards(), _bytes, TASK, BATCH_PARTS):
        yield functools.partial(_read, shards, corpus.name)


def _large(corpus):
    """A remark on the largest file, which waits for one worker, if it is large."""
    sizes = ((_bytes(shard), shard.path) for shard in (corpus.shards() if corpus.shards else ()))
    size, path = max(sizes, default=(0, ""))
    told = f"; note: {path} of {size / 2**20:,.0f} MiB is read by one worker: several smaller files would be faster"
    return told if size > LARGE else ""


def _bytes(shard: Shard) -> int:
    try:
        return os.path.getsize(shard.path)
    except OSError:
        return 0  # whoever reads it tells


def _given(parts, skipped):
    del skipped  # counted where they were read
    return parts


def _read(shards, name, skipped):
    return Streamed.of_shards(lambda: shards, skipped, name=name).parts()


def _run(pipeline, count, place) -> str:
    """Encodes tasks 1 to `count`; '' or why they are not all done."""
    import apache_beam as beam

    numbers = pipeline | "number" >> beam.Create(range(1, count + 1)) | "spread" >> beam.Reshuffle()
    _ = numbers | "encode" >> beam.Map(encode_task, place=str(place), directory=os.getcwd())
    result = None
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:  # whatever a runner raises
        return _line(error)
    except BaseException:
        if result is not None:
            result.cancel()
        raise
    undone = next((n for n in range(1, count + 1) if not (place / f"{n}.ids").exists()), None)
    return f"it ends as {state} and lacks {place}/{undone}.ids" if undone else ""


def encode_task(number: int, place: str, directory: str) -> None:
    """Encodes one task: what a worker does, on whatever machine.

    Args:
        number: of the task.
        place: the folder of all tasks.
        directory: to which relative paths of a corpus belong.

    Raises:
        RuntimeError: this machine does not have the folder.
    """
    folder = pathlib.Path(place)
    if not folder.is_dir():
        raise RuntimeError(
            f"{socket.gethostname()} has no {place}, but all workers must share it with the first process"
        )
    if any(other < number for other in _failed(folder)):
        return  # nobody needs it
    with contextlib.suppress(OSError):  # all paths may be absolute
        os.chdir(directory)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # here every worker is a core
    try:
        tokenizer, skipped = _tokenizer(folder / "tokenizer"), Skipped()
        task: _Task = pickle.loads((folder / f"{number}.task").read_bytes())
        with replacing(folder / f"{number}.ids", "wb") as file:
            for batch, ids in encoded(batches(task(skipped)), tokenizer):
                pickle.dump((batch, joined(ids, tokenizer)), file)
            pickle.dump((None, skipped), file)
    except (UserError, KeyboardInterrupt) as error:  # to be raised as it is where the pipeline began, not as Beam's
        with replacing(folder / "failed" / str(number), "wb") as file:
            pickle.dump(error, file)


@functools.lru_cache(1)
def _tokenizer(path):
    return pickle.loads(path.read_bytes())


def _line(error):
    return " ".join(str(error).split())[:400]
