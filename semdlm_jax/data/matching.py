"""Which files the spec of a corpus names, and what reads their documents."""

import functools
import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from semdlm_jax.data import splitting
from semdlm_jax.data.documents import Shard
from semdlm_jax.data.files import Skipped, check_beginning, parts_of, read_lines, read_parts
from semdlm_jax.data.formats import PLAIN, kind_of
from semdlm_jax.data.records import FIELD, read_documents
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular

Reader = Callable[[str, Skipped], Iterator[str]]  # (path, where to count rows without text) -> documents


def text_files(spec: str, pattern: str, field: str) -> tuple[tuple[str, ...], Reader | None]:
    """The files of a spec 'text:PATTERN' and what reads them, None for plain text. UserError: none, of several kinds,
    or of one that is not read."""
    paths = matching(spec, pattern)
    kinds = {path: kind_of(path) for path in paths}
    if other := next((path for path in paths if (kinds[path] == PLAIN) != (kinds[paths[0]] == PLAIN)), None):
        raise UserError(f"corpus {spec!r} mixes {paths[0]} with {other}: give files of one kind")
    if kinds[paths[0]] != PLAIN:
        return paths, functools.partial(read_documents, field=field)
    check_no_field(f"{paths[0]}, plain text,", field)
    for path in paths:
        check_beginning(path)
    return paths, None


def line_files(spec: str, pattern: str, field: str) -> tuple[tuple[str, ...], Reader]:
    """The same of a spec 'lines:PATTERN'."""
    paths = matching(spec, pattern)
    for path in paths:
        if kind_of(path) != PLAIN:
            kind = kind_of(path)
            raise UserError(f"corpus {spec!r}: {path} is {kind}, not a sentence a line: give it as text:{path}")
        check_beginning(path)
    check_no_field(f"{paths[0]}, plain text,", field)
    return paths, _lines


def _lines(path, skipped):
    del skipped  # a blank line is none
    return read_lines(path)


def shards_of(
    paths: Sequence[str], read: Reader | None, split: str | None, fraction: float = 0.0, drawn: Sequence[str] = ()
) -> Iterator[Shard]:
    """A Shard for every file.

    Args:
      paths: of the files.
      read: what reads their documents; None for plain text, a document a file.
      split: of all their documents; None if each falls where `splitting.split_of` has it.
      fraction, drawn: of `split_of`.
    """
    for path in paths:
        yield Shard(path, functools.partial(_documents, path, read, split, fraction, drawn))


def _documents(path, read, split, fraction, drawn, skipped):
    if read is not None:
        for text in read(path, skipped):
            yield split or splitting.split_of(text, fraction, drawn), parts_of(text)
        return
    parts = read_parts(path)
    if (first := next(parts, None)) is None:
        skipped.add(path)
    else:
        yield split, itertools.chain([first], parts)


def check_no_field(what: str, field: str) -> None:
    """UserError where a field was named of what has none."""
    if field != FIELD:
        raise UserError(f"data.field = {field!r}, but {what} has no fields: leave it out")


def absolute(spec: str) -> str:
    """A spec 'text:PATTERN' or 'lines:PATTERN' with the absolute path of its pattern; any other as it is."""
    kind, colon, pattern = spec.partition(":")
    return f"{kind}{colon}{os.path.abspath(pattern)}" if kind in ("text", "lines") else spec


def same_files(one: str, other: str) -> bool:
    """Whether two specs name the same files for the same reader, however the paths are spelled."""
    one, other = absolute(one), absolute(other)
    kinds = {spec.partition(":")[0] for spec in (one, other)}
    if one == other or kinds not in ({"text"}, {"lines"}):
        return one == other
    files, others = (_files(spec.partition(":")[2]) for spec in (one, other))
    return bool(files) and files == others


def _files(pattern):
    """The files of a pattern, whatever path leads to them."""
    return {os.path.realpath(path) for path in _found(pattern) if os.path.isfile(path)}


def _found(pattern):
    """What a pattern matches, sorted."""
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), "**", "*")  # all below it but what is hidden
    return sorted(glob.glob(pattern, recursive=True))


def matching(spec, pattern):
    found = _found(pattern)
    paths = tuple(path for path in found if os.path.isfile(path))
    if not paths:
        for path in found:
            check_regular(path)
        kind = spec.partition(":")[0]
        raise UserError(f"corpus {spec!r}: no file matches: give a path, a folder or a glob like '{kind}:books/*.txt'")
    return paths
