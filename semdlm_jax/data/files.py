"""Documents out of files of several kinds, one at a time, with every fault told in a sentence."""

import contextlib
import gzip
import json
import pathlib
import zlib

import pyarrow
import pyarrow.parquet

from semdlm_jax.errors import UserError

MAX_LINE = 2**20  # bytes of a line of a `lines:` file: a sentence is far shorter
MAX_RECORD = 2**26  # bytes of a line of JSON: a book is shorter
PARQUET_ROWS = 1000  # in memory at a time


def read_text(path):
    """The contents of a plain text file, .gz or not. UserError: unreadable, not strict UTF-8, or holding NUL bytes."""
    with _open(path) as file:
        return _decoded(file.read(), path)


def read_lines(path):
    """The lines of a text file, .gz or not, that are not blank, stripped, one at a time.

    UserError: as `read_text`, or a line of more than MAX_LINE bytes.
    """
    advice = "put a sentence or document a line, or give whole documents to text:"
    for _, line in _numbered(path, MAX_LINE, advice):
        if line := line.strip():
            yield line


def read_documents(path):
    """The documents of a file that are not blank, one at a time, by its name's ending: .jsonl (a JSON object with the
    string 'text' a line) and .parquet (the column 'text') hold many, any other is one of plain text. All but .parquet
    may be gzipped, with a further .gz.

    UserError: unreadable, broken, not UTF-8, without 'text', or a record of more than MAX_RECORD bytes.
    """
    name = pathlib.Path(path).name.removesuffix(".gz")
    read = _json_lines if name.endswith(".jsonl") else _parquet if name.endswith(".parquet") else _whole
    for text in read(path):
        if text.strip():
            yield text


def holds_many(path):
    """Whether a file of this name holds many documents."""
    return pathlib.Path(path).name.removesuffix(".gz").endswith((".jsonl", ".parquet"))


def _whole(path):
    yield read_text(path)


def _json_lines(path):
    for number, line in _numbered(path, MAX_RECORD, "a record holds one document"):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: not JSON: give one JSON object a line") from None
        except (KeyError, TypeError):
            text = None
        yield _string(text, f"{path}, line {number}")


def _parquet(path):
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise UserError(f"{path}: has no column 'text' but {names}: rename the column of the documents")
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    yield _string(text, path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as parquet ({cause}): fetch or write it again") from None


def _string(text, place):
    if not isinstance(text, str):
        raise UserError(f"{place}: no string under 'text': name the field of the documents so")
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    raise UserError(f"{place}: not UTF-8 text (half a surrogate pair): convert it to UTF-8")


def _numbered(path, limit, advice):
    """(number from 1, line) of a file, without its end of line."""
    with _open(path) as file:
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise UserError(f"{path}, line {number}: longer than {limit / 2**20:.0f} MiB: {advice}")
            yield number, _decoded(line, f"{path}, line {number}").rstrip("\r\n")


@contextlib.contextmanager
def _open(path):
    """The bytes of a file, gunzipped where its name ends in .gz."""
    try:
        with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: broken gzip ({error}): fetch or write it again") from None
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"{path}: cannot be read ({cause}): give the path of a UTF-8 text file") from None


def _decoded(data, place):
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {error.start}): convert it to UTF-8") from None
    if "\0" in text:
        raise UserError(f"{place}: holds NUL bytes, so it is not plain text: convert it to UTF-8")
    return text
