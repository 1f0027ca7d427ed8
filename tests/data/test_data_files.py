import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from semdlm_jax.data import files
from semdlm_jax.errors import UserError


def test_read_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffnaïve\r\n".encode())
    assert files.read_text(path) == "naïve\r\n"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(files.read_documents(tmp_path / "a.txt.gz")) == ["naïve\r\n"]
    for bad in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(UserError, match="cannot be read"):
            files.read_text(bad)


def test_a_long_record_is_read_and_a_long_sentence_is_not(tmp_path):
    long = "word " * 2_000_000  # 10 MB
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": long}) + "\n")
    assert list(files.read_documents(tmp_path / "a.jsonl")) == [long]
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
        ("a.txt.gz", WHOLE[:20], "a.txt.gz: broken gzip"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "a.jsonl, line 2: not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl, line 3: not JSON"),
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
        list(files.read_documents(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_parquet_file_without_text_is_told(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column 'text' but body"):
        list(files.read_documents(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no string under 'text'"):
        list(files.read_documents(tmp_path / "a.parquet"))
