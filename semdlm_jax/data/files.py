"""Documents out of files of several kinds, one at a time, with every fault told in a sentence."""

import contextlib
import dataclasses
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator

from semdlm_jax.data import formats
from semdlm_jax.data.formats import check_plain, kind_of
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular

MAX_LINE = 2**20  # bytes of a line of a `lines:` file: a sentence is far shorter
MAX_PARAGRAPH = 10 * 2**20  # bytes of a line of any document: it is encoded as one
MAX_RECORD = 2**25  # bytes of a line of JSON: a book is shorter
PARQUET_ROWS, PARQUET_BYTES = 64, 2**24  # in memory at a time: so many rows, or fewer of that size
PARQUET_BUFFER = 2**20  # bytes; without one a whole group of rows is read at once
PART = 2**18  # characters of a part of a document
_OBJECTS = "give one JSON object a line (jq -c '.[]' makes them of an array)"


@dataclasses.dataclass
class Skipped:
    """Rows without text that a pass over files has left out. first: where the first one is."""

    rows: int = 0
    first: str | None = None

    def add(self, place: str) -> None:
        self.rows += 1
        self.first = self.first or place

    def clear(self) -> None:
        self.rows, self.first = 0, None


def read_contents(path) -> str:
    """What a file of UTF-8 holds, .gz or not. UserError: unreadable, not strict UTF-8, or holding NUL bytes."""
    with _open(path) as file:
        return _decoded(file.read(), path)


def read_text(path) -> str:
    """`read_contents` of a file of plain text. UserError: also where it is of another kind, e.g. JSON."""
    with _open(path) as file:
        check_plain(path, file.peek(formats.HEAD))
        return _decoded(file.read(), path)


def read_lines(path) -> Iterator[str]:
    """The lines of a file of plain text, .gz or not, that are not blank, stripped, one at a time.

    UserError: as `read_text`, or a line of more than MAX_LINE bytes.
    """
    return (line for _, line in read_numbered_lines(path))


def read_numbered_lines(path) -> Iterator[tuple[int, str]]:
    """`read_lines`, each with its number in the file, from 1."""
    advice = "put a sentence or document a line, or give whole documents to text:"
    for number, line in _numbered(path, MAX_LINE, advice, check_plain):
        if line := line.strip():
            yield number, line


def read_documents(path, skipped: Skipped | None = None) -> Iterator[str]:
    """The documents of a file that are not blank, one at a time. JSON lines (an object with the string 'text' a line)
    and parquet (the column 'text') hold many, see `formats.KINDS`; any other file is one of plain text. All but
    parquet may be gzipped, with a further .gz. skipped: counts rows whose text is null or blank, and blank files.

    UserError: unreadable, broken, not UTF-8, without 'text', a record of more than MAX_RECORD bytes, or a line of
    more than MAX_PARAGRAPH.
    """
    for place, text in _READERS[kind_of(path)](path):
        if text is not None and text.strip():
            yield text
        elif skipped is not None:
            skipped.add(place)


def read_plain_lines(path) -> Iterator[str]:
    """The lines of a file of plain text, .gz or not, each with its end: joined they are `read_text`."""
    with _open(path) as file:
        check_plain(path, file.peek(formats.HEAD))
        offset = number = 0
        while line := file.readline(MAX_PARAGRAPH + 1):
            number += 1
            if len(line) > MAX_PARAGRAPH:
                raise _too_long(f"{path}, line {number}")
            yield _decoded(line, path, offset)
            offset += len(line)


def read_parts(path) -> Iterator[str]:
    """A file of plain text in parts, as `parts_of_lines` has them; none of a blank one."""
    parts, first = parts_of_lines(read_plain_lines(path)), []
    for part in parts:
        first.append(part)
        if part.strip():
            yield from itertools.chain(first, parts)


def check_beginning(path) -> None:
    """UserError where a file, by its name or its first bytes, is no plain text, or cannot be read."""
    with _open(path) as file:
        check_plain(path, file.peek(formats.HEAD))


def lines_of(text: str) -> list[str]:
    """The lines of a text that are not blank, stripped; they end at a line feed alone, as those of `read_lines`."""
    return [line for part in text.split("\n") if (line := part.strip())]


def parts_of_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines, each with its end, joined to parts of PART characters, or a line more. The tokens of a text are those of
    its parts, one after the other: see `encoding`."""
    part, size = [], 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART:
            yield "".join(part)
            part, size = [], 0
    if part:
        yield "".join(part)


def parts_of(text: str, end_mark: str = "\n") -> Iterator[str]:
    """A text in parts of PART characters or a little more, each to the end of a line, or of whatever the regular
    expression `end_mark` finds; none of ''."""
    start, mark = 0, re.compile(end_mark)
    while start < len(text):
        found = mark.search(text, start + PART)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end


def _whole(path):
    yield path, "".join(read_plain_lines(path))


def _json_lines(path):
    for number, line in _numbered(path, MAX_RECORD, "a record holds one document"):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{place}: not JSON lines: {_OBJECTS}") from None
        if not isinstance(row, dict) or "text" not in row:
            raise _no_string(place)
        text = _checked(row.pop("text"), place)
        del line, row  # each as large as the text
        yield place, text


def _parquet(path):
    import pyarrow.parquet  # an extra: only where it is needed

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER) as file:
            if "text" not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise UserError(f"{path}: has no column 'text' but {names}: rename the column of the documents")
            number = 0
            for batch in file.iter_batches(batch_size=_rows_at_a_time(file.metadata), columns=["text"]):
                for cell in batch.column(0):
                    number += 1
                    place = f"{path}, row {number}"
                    yield place, _checked(cell.as_py(), place)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as parquet ({cause}): fetch or write it again") from None


def _rows_at_a_time(metadata):
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    mean = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(min(PARQUET_BYTES // max(mean, 1), PARQUET_ROWS), 1)


_READERS = {formats.PLAIN: _whole, formats.JSON_LINES: _json_lines, formats.PARQUET: _parquet}


def _checked(text, place):
    """The text of a row, None where it is null. UserError: of another type, half a surrogate pair, a long line."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise _no_string(place)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place}: not UTF-8 text (half a surrogate pair): convert it to UTF-8") from None
    if len(encoded) > MAX_PARAGRAPH and max(map(len, encoded.split(b"\n"))) > MAX_PARAGRAPH:
        raise _too_long(place)
    return text


def _no_string(place):
    return UserError(f"{place}: no string under 'text': name the field of the documents so; {_OBJECTS}")


def _too_long(place):
    return UserError(f"{place}: a line of text of more than {MAX_PARAGRAPH / 2**20:.0f} MiB: break it into paragraphs")


def _numbered(path, limit, advice, check=lambda path, head: None):
    """(number from 1, line) of a file, without its end of line."""
    with _open(path) as file:
        check(path, file.peek(formats.HEAD))
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise UserError(f"{path}, line {number}: longer than {limit / 2**20:.0f} MiB: {advice}")
            line = line.rstrip(b"\r\n")
            yield number, _decoded(line, f"{path}, line {number}")


@contextlib.contextmanager
def _open(path):
    """The bytes of a file, gunzipped where its name ends in .gz."""
    check_regular(path)
    try:
        with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: broken gzip ({error}): fetch or write it again") from None
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"{path}: cannot be read ({cause}): give the path of a UTF-8 text file") from None


def _decoded(data, place, offset=0):
    """offset: bytes of the file before `data`."""
    try:
        text = data.decode("utf-8" if offset else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {offset + error.start}): convert it to UTF-8") from None
    if "\0" in text:
        raise UserError(f"{place}: holds NUL bytes, so it is not plain text: convert it to UTF-8")
    return text
