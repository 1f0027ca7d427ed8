"""Text out of files, line by line, with every fault told in a sentence; `records` has those of many documents."""

import contextlib
import dataclasses
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from semdlm_jax.data import formats
from semdlm_jax.data.formats import check_plain
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular

MAX_LINE = 2**20  # bytes of a line of a `lines:` file: a sentence is far shorter
MAX_PARAGRAPH = 10 * 2**20  # bytes of a line of any document: it is encoded as one
PART = 2**18  # characters of a part of a document


@dataclasses.dataclass
class Skipped:
    """Rows without text that a pass over files has left out. first: where the first one is."""

    rows: int = 0
    first: str | None = None

    def add(self, place: str) -> None:
        self.rows += 1
        self.first = self.first or place

    def add_all(self, later: "Skipped") -> None:
        self.rows += later.rows
        self.first = self.first or later.first

    def clear(self) -> None:
        self.rows, self.first = 0, None


def read_contents(path) -> str:
    """What a file of UTF-8 holds, .gz or not. UserError: unreadable, not strict UTF-8, or holding NUL bytes."""
    with opened(path) as file:
        return decoded(file.read(), path)


def read_text(path) -> str:
    """`read_contents` of a file of plain text. UserError: also where it is of another kind, e.g. JSON."""
    with opened(path) as file:
        check_plain(path, file.peek(formats.HEAD))
        return decoded(file.read(), path)


def read_lines(path) -> Iterator[str]:
    """The lines of a file of plain text, .gz or not, that are not blank, stripped, one at a time.

    UserError: as `read_text`, or a line of more than MAX_LINE bytes.
    """
    return (line for _, line in read_numbered_lines(path))


def read_numbered_lines(path) -> Iterator[tuple[int, str]]:
    """`read_lines`, each with its number in the file, from 1."""
    advice = "put a sentence or document a line, or give whole documents to text:"
    for number, line in numbered(path, MAX_LINE, advice, check_plain):
        if line := line.strip():
            yield number, line


def read_plain_lines(path, in_pieces: bool = False) -> Iterator[str]:
    """The lines of a file of plain text, .gz or not, each with its end: joined they are `read_text`.

    in_pieces: a line of more than MAX_PARAGRAPH bytes, as text8 is one, comes in pieces that begin with a space; else
    it is refused.
    """
    with opened(path) as file:
        check_plain(path, file.peek(formats.HEAD))
        offset, number, line, whole = 0, 0, b"", True  # whole: `line` is no rest of a longer one
        while line := line if line.endswith(b"\n") else line + file.readline(MAX_PARAGRAPH + 1 - len(line)):
            number += whole
            whole = len(line) <= MAX_PARAGRAPH
            end = len(line) if whole else line.rfind(b" ") if in_pieces else 0
            if end <= 0:
                raise too_long(f"{path}, line {number}")
            yield from _divided(decoded(line[:end], path, offset), whole)
            offset, line = offset + end, line[end:]


def _divided(text, whole):
    """A line as it is, or part of one in pieces of PART characters or a little more, each but the first from a space
    on: a word is never divided."""
    start = 0
    while not whole and (end := text.find(" ", start + PART)) > 0:
        yield text[start:end]
        start = end
    yield text[start:]


def read_parts(path) -> Iterator[str]:
    """A file of plain text in parts, as `parts_of_lines` has them; none of a blank one."""
    yield from with_text(parts_of_lines(read_plain_lines(path, in_pieces=True))) or ()


def with_text(parts: Iterable[str]) -> Iterator[str] | None:
    """The parts of a document, None where all are blank."""
    parts, first = iter(parts), []
    for part in parts:
        first.append(part)
        if part.strip():
            return itertools.chain(first, parts)
    return None


def check_beginning(path) -> None:
    """UserError where a file, by its name or its first bytes, is no plain text, or cannot be read."""
    with opened(path) as file:
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


def too_long(place: str) -> UserError:
    """For a line of a document that is more than is encoded as one."""
    return UserError(f"{place}: a line of text of more than {MAX_PARAGRAPH / 2**20:.0f} MiB: break it into paragraphs")


def numbered(path, limit, advice, check=lambda path, head: None, ends=False):
    """(number from 1, line) of a file. ends: with its end of line."""
    with opened(path) as file:
        check(path, file.peek(formats.HEAD))
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise UserError(f"{path}, line {number}: longer than {limit / 2**20:.0f} MiB: {advice}")
            text = decoded(line, f"{path}, line {number}")
            yield number, text if ends else text.rstrip("\r\n")


@contextlib.contextmanager
def opened(path) -> Iterator[Any]:
    """The bytes of a file, gunzipped where its name ends in .gz."""
    check_regular(path)
    try:
        with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: broken gzip ({error}): fetch or write it again") from None
    except OSError as error:
        cause = error.strerror or error
        raise UserError(
            f"{path}: cannot be read ({cause}): give the path of a file that is there and may be read"
        ) from None


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decoded(data, place, offset=0):
    """offset: bytes of the file before `data`."""
    try:
        text = data.decode("utf-8" if offset else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {offset + error.start}): convert it to UTF-8") from None
    if "\0" in text:
        raise UserError(f"{place}: holds NUL bytes, so it is not plain text: convert it to UTF-8")
    return text
