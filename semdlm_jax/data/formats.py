"""What a file holds, by its name and first bytes; what is no text to train on is refused by name."""

import pathlib
import re

from semdlm_jax.errors import UserError
from semdlm_jax.extras import require

PLAIN, JSON_LINES, PARQUET, CSV, TSV = "plain text", "JSON lines", "parquet", "CSV", "TSV"
# Others are PLAIN.
KINDS = {
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".json": JSON_LINES,
    ".parquet": PARQUET,
    ".csv": CSV,
    ".tsv": TSV,
}
PACKED = "7z br bz2 lz4 lzma rar tar tbz tbz2 tgz txz xz z zip zst zstd".split()
NOT_TEXT = (
    "arrow array_record avro bin db doc docx epub feather h5 hdf5 htm html npy npz odt orc pdf pickle pkl ppt pptx "
    "pt rtf safetensors sqlite tfrecord xhtml xls xlsx xml yaml yml"
).split()
HEAD = 4096  # bytes that tell what a file is
# What a file of any name begins with -> what it is then.
_BEGINNINGS = {
    rb"\x1f\x8b": "gzip: name it .gz",
    rb"PK\x03\x04|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!": "a packed archive: unpack it",
    rb"PAR1": "parquet: name it .parquet",
    rb"%PDF-": "PDF: write its text as .txt",
    rb"\{\\rtf": "RTF: write its text as .txt",
    rb"\s*(?i:<\?xml|<!doctype html|<html|<mediawiki)": "HTML or XML: write its text as .txt",
    rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"[^"\n]*"\s*:': "JSON: give JSON lines named .jsonl, or write its text as .txt",
}


def kind_of(path) -> str:
    """PLAIN or another of KINDS, by the ending of a file's name, before a further .gz. UserError: one that is neither
    plain text nor read here, or read by a package that is not installed."""
    name = pathlib.Path(path).name.lower()
    zipped = name.endswith(".gz")
    ending = pathlib.Path(name.removesuffix(".gz")).suffix
    if ending[1:] in PACKED:
        raise UserError(f"{path}: files ending in {ending} are not unpacked here: unpack it, or pack its text as .gz")
    kind = KINDS.get(ending, PLAIN)
    if ending[1:] in NOT_TEXT or (zipped and kind == PARQUET):
        whole = ending + ".gz" * zipped
        raise UserError(f"{path}: files ending in {whole} are not read: write its text as .txt, .jsonl or .parquet")
    if kind == PARQUET:
        require("pyarrow", use=str(path))
    return kind


def check_plain(path, head: bytes) -> None:
    """UserError where a file is no plain text, by its name or by `head`, its first bytes, unpacked."""
    if (kind := kind_of(path)) != PLAIN:
        raise UserError(f"{path}: is {kind}, not plain text: write its text as .txt")
    for beginning, what in _BEGINNINGS.items():
        if re.match(beginning, head):
            raise UserError(f"{path}: not plain text but {what}")
