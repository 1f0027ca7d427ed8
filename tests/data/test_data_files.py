import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from semdlm_jax.data import corpora, files, records
from semdlm_jax.errors import UserError


def test_read_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffnaïve\r\n".encode())
    assert files.read_text(path) == "naïve\r\n"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(records.read_documents(tmp_path / "a.txt.gz")) == ["naïve\r\n"]
    for bad in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(UserError, match="cannot be read"):
            files.read_text(bad)


def test_a_long_record_is_read_and_a_long_sentence_is_not(tmp_path):
    long = "word " * 2_000_000  # 10 MB
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": long}) + "\n")
    assert list(records.read_documents(tmp_path / "a.jsonl")) == [long]
    (tmp_path / "a.txt").write_text("short\n" + long + "\n")
    with pytest.raises(UserError, match=r"a.txt, line 2: longer than 1 MiB: put a sentence"):
        list(files.read_lines(tmp_path / "a.txt"))


# mtime: the bytes name the tests, and two workers that collect in different seconds would name them differently.
WHOLE = gzip.compress(b'{"text": "some text that is long enough"}\n' * 50, mtime=0)


@pytest.mark.parametrize(
    "name, contents, message",
    [
        ("a.jsonl.gz", WHOLE[: len(WHOLE) // 2], "a.jsonl.gz: broken gzip"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz: broken gzip"),
        ("a.jsonl.gz", WHOLE[:-6] + b"abcdef", "a.jsonl.gz: broken gzip"),
        ("a.txt.gz", gzip.compress(b"plain text", mtime=0)[:20], "a.txt.gz: broken gzip"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "a.jsonl, line 2: not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl, line 3: not JSON lines: give one JSON object a line"),
        ("a.jsonl", b'{"body": "a"}\n', "line 1: no string under 'text'"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: no string under 'text'"),
        ("a.jsonl", b'["text"]\n', "line 1: no string under 'text'"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "half a surrogate"),
        ("a.jsonl", b'{"text": "\0"}\n', "NUL"),
        ("a.parquet", b"PAR1 not parquet", "cannot be read as parquet"),
        ("a.txt", b"caf\xe9", "a.txt: not UTF-8"),
    ],
)
def test_bad_files_are_told_in_a_sentence(tmp_path, name, contents, message):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserError, match=message) as error:
        list(records.read_documents(tmp_path / name))
    assert "\n" not in str(error.value)


JSON_TEXT = b'[\n  {"id": 1, "text": "a"},\n  {"id": 2, "text": "b"}\n]\n'


@pytest.mark.parametrize(
    "name, contents, message",
    [
        ("a.json", JSON_TEXT, "a.json, line 1: not JSON lines: give one JSON object a line"),
        ("a.json.gz", gzip.compress(JSON_TEXT, mtime=0), "a.json.gz, line 1: not JSON lines"),
        ("a.json", b'["a", "b"]', "no string under 'text'"),
        ("a.json", b'{\n  "text": "a"\n}', "not JSON lines"),
        ("a.txt", b'{"text": "a"}\n', "not plain text but JSON: give JSON lines named .jsonl"),
        ("a.txt", b"\xef\xbb\xbf" + JSON_TEXT, "not plain text but JSON"),
        ("a.txt.gz", gzip.compress(b'\n {"id": 1, "text": "a"}', mtime=0), "not plain text but JSON"),
        ("a", gzip.compress(b"text", mtime=0), "gzip: name it .gz"),
        ("a", b"PK\x03\x04", "a packed archive: unpack it"),
        ("a.txt", b"%PDF-1.7", "PDF"),
        ("a.txt", b"<!DOCTYPE html><p>text", "HTML"),
        ("a.XLSX.gz", b"PK", "files ending in .xlsx.gz are not read"),
        ("a.parquet.gz", b"PAR1", "files ending in .parquet.gz are not read"),
        ("a.txt.zst", b"text", "files ending in .zst are not unpacked here"),
        ("a.tar.gz", b"text", "files ending in .tar are not unpacked here"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "lines"])
def test_what_is_no_plain_text_is_refused_by_name(tmp_path, name, contents, message, kind):
    (tmp_path / name).write_bytes(contents)
    if kind == "lines" and name.startswith("a.json"):
        message = "is JSON lines, not a sentence a line: give it as text:"
    with pytest.raises(UserError, match=message) as error:
        list(corpora.load_corpus(f"{kind}:{tmp_path}/{name}").documents())
    assert "\n" not in str(error.value) and f"{tmp_path}/{name}" in str(error.value)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.ndjson", "a.JSONL"])
def test_json_lines_by_any_name(tmp_path, name):
    content = b'{"text": "one"}\n\n{"id": 3, "text": "two\\nlines"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(records.read_documents(tmp_path / name)) == ["one", "two\nlines"]


@pytest.mark.parametrize("name", ["notes.md", "news.en-00001-of-00100", "a.tokens", "[Illustration]"])
def test_plain_text_has_any_name(tmp_path, name):
    (tmp_path / name).write_text('[Illustration]\n{a} "b": c')
    assert list(files.read_lines(tmp_path / name)) == ["[Illustration]", '{a} "b": c']
    assert files.read_text(tmp_path / name) == "".join(files.read_plain_lines(tmp_path / name))


def test_rows_without_text_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": null}\n{"text": " "}\n{"text": "b"}\n')
    skipped = files.Skipped()
    assert list(records.read_documents(tmp_path / "a.jsonl", skipped)) == ["a", "b"]
    assert skipped == files.Skipped(2, f"{tmp_path}/a.jsonl, line 3")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "", "b"]}), tmp_path / "a.parquet")
    skipped = files.Skipped()
    assert list(records.read_documents(tmp_path / "a.parquet", skipped)) == ["a", "b"]
    assert skipped == files.Skipped(2, f"{tmp_path}/a.parquet, row 2")


def test_a_line_too_long_to_be_encoded_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_PARAGRAPH", 2**20)
    long = "word " * 300_000
    (tmp_path / "a.txt").write_text(f"one\n\ntwo\n{long}\n\nthree")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": f"one\n{long}"}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "漢字" * 200_000}))  # 1.2 MB, as in a plain file
    for name, place in (("a.txt", "a.txt, line 4"), ("a.jsonl", "a.jsonl, line 1"), ("b.jsonl", "b.jsonl, line 1")):
        with pytest.raises(UserError, match=f"{place}: a line of text of more than 1 MiB"):
            corpora.load_corpus(f"text:{tmp_path}/{name}")


def test_long_rows_of_parquet_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    path, texts = tmp_path / "a.parquet", [f"{i} " + "long " * 1000 for i in range(30)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=20, use_dictionary=False)
    monkeypatch.setattr(records, "PARQUET_BYTES", 3 * 5100)
    assert records._rows_at_a_time(pyarrow.parquet.read_metadata(path)) == 3
    assert list(records.read_documents(path)) == texts


def test_a_parquet_file_without_text_is_told(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column 'text' but body"):
        list(records.read_documents(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a.parquet, row 1: no string under 'text'"):
        list(records.read_documents(tmp_path / "a.parquet"))


def test_lines_end_at_a_line_feed_alone(tmp_path):
    """Whatever else some take for an end; the same of a file and of a text that has been read."""
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\u2028and\x85the\fsame\vone\x1cstill\r\n \n\r\n two\rand more \nlast".encode())
    wanted = ["one\u2028and\x85the\fsame\vone\x1cstill", "two\rand more", "last"]
    assert list(files.read_lines(path)) == files.lines_of(files.read_text(path)) == wanted
