"""Files of many documents: JSON lines, parquet, CSV and TSV, of which one field or column holds the text."""

import csv
import json
from collections.abc import Iterable, Iterator

from semdlm_jax.data import files, formats
from semdlm_jax.data.files import Skipped, numbered, read_plain_lines, too_long
from semdlm_jax.data.formats import kind_of
from semdlm_jax.errors import UserError

FIELD = "text"  # what holds the documents, where nothing else is said
MAX_RECORD = 2**25  # bytes of a line of JSON, characters of a cell of CSV: a book is shorter
PARQUET_ROWS, PARQUET_BYTES = 64, 2**24  # in memory at a time: so many rows, or fewer of that size
PARQUET_BUFFER = 2**20  # bytes; without one a whole group of rows is read at once
_OBJECTS = "give one JSON object a line (jq -c '.[]' makes them of an array)"
_QUOTES = (
    "put double quotes around cells that hold a quote, a separator or a line break, and write a quote in them twice"
)


def read_documents(path, skipped: Skipped | None = None, field: str = FIELD) -> Iterator[str]:
    """The documents of a file that are not blank, one at a time. JSON lines (an object a line), parquet, CSV and TSV
    (whose first row names the columns) hold many, as strings under `field`, see `formats.KINDS`; any other file is one
    of plain text. All but parquet may be gzipped, with a further .gz. skipped: counts rows whose text is null or blank,
    and blank files.

    UserError: unreadable, broken, not UTF-8, without the field, a record of more than MAX_RECORD, or a line of more
    than files.MAX_PARAGRAPH.
    """
    for place, text in _READERS[kind_of(path)](path, field):
        if text is not None and text.strip():
            yield text
        elif skipped is not None:
            skipped.add(place)


def _whole(path, field):
    del field
    yield path, "".join(read_plain_lines(path))


def _json_lines(path, field):
    for number, line in numbered(path, MAX_RECORD, "a record holds one document"):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{place}: not JSON lines: {_OBJECTS}") from None
        if not isinstance(row, dict) or field not in row:
            has = f", which has {_listed(row)}" if isinstance(row, dict) and row else ""
            raise _no_string(place, field, has)
        text = _checked(row.pop(field), place, field)
        del line, row  # each as large as the text
        yield place, text


def _parquet(path, field):
    import pyarrow.parquet  # an extra: only where it is needed

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER) as file:
            _column(path, file.schema_arrow.names, field)
            number = 0
            for batch in file.iter_batches(batch_size=_rows_at_a_time(file.metadata), columns=[field]):
                for cell in batch.column(0):
                    number += 1
                    place = f"{path}, row {number}"
                    yield place, _checked(cell.as_py(), place, field)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as parquet ({cause}): fetch or write it again") from None


def _rows_at_a_time(metadata):
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    mean = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(min(PARQUET_BYTES // max(mean, 1), PARQUET_ROWS), 1)


def _csv(path, field):
    return _table(path, field, ",")


def _tsv(path, field):
    return _table(path, field, "\t")


def _table(path, field, delimiter):
    csv.field_size_limit(MAX_RECORD)  # of the whole process: its own is less than a document
    # Lines with their ends, which a quoted cell keeps.
    lines = (line for _, line in numbered(path, MAX_RECORD, "a row holds one document", ends=True))
    rows, begin = csv.reader(lines, delimiter=delimiter, strict=True), 1
    try:
        names = next(rows, [])
        column = _column(path, names, field)
        begin = rows.line_num + 1
        for row in rows:
            place, begin = f"{path}, line {begin}", rows.line_num + 1
            if row and len(row) != len(names):
                raise UserError(f"{place}: {len(row)} cells under {len(names)} columns: {_QUOTES}")
            if row:
                yield place, _checked(row[column], place, field)
    except csv.Error as error:
        raise UserError(f"{path}, line {begin}: not a row of its table ({error}): {_QUOTES}") from None


_READERS = {
    formats.PLAIN: _whole,
    formats.JSON_LINES: _json_lines,
    formats.PARQUET: _parquet,
    formats.CSV: _csv,
    formats.TSV: _tsv,
}


def _column(path, names, field):
    """The place of a column among the names of a table."""
    if field not in names:
        raise UserError(
            f"{path}: has no column {field!r} but {_listed(names) or 'none'}: name that of the documents as data.field"
        )
    return list(names).index(field)


def _checked(text, place, field):
    """The text of a row, None where it is null. UserError: of another type, half a surrogate pair, a long line."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise _no_string(place, field)
    if not files.is_text(text):
        raise UserError(f"{place}: not UTF-8 text (half a surrogate pair): convert it to UTF-8")
    encoded = text.encode()
    limit = files.MAX_PARAGRAPH
    if len(encoded) > limit and max(map(len, encoded.split(b"\n"))) > limit:
        raise too_long(place)
    return text


def _no_string(place, field, has=""):
    return UserError(
        f"{place}: no string under {field!r}{has}: name the field of the documents as data.field; {_OBJECTS}"
    )


def _listed(names: Iterable[str]) -> str:
    """Names of fields in a message."""
    names = [str(name) for name in names]
    return ", ".join([*names[:12], *["…"] * (len(names) > 12)])
