"""What a file holds, by its name and first bytes; what is no text for training is refused by name."""

import gzip
import pathlib
import re

from semdlm_jax.errors import UserError

PLAIN, JSON_LINES, PARQUET = "plain", "json", "parquet"
KINDS = {".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES, ".parquet": PARQUET}  # others are PLAIN
PACKED = "7z br bz2 lz4 lzma rar tar tbz tbz2 tgz txz xz z zip zst zstd".split()
NOT_PLAIN = (
    "arrow array_record avro bin csv db doc docx epub feather h5 hdf5 htm html npy npz odt orc parq pdf pickle pkl ppt "
    "pptx pt rtf safetensors sqlite tfrecord tsv xhtml xls xlsx xml yaml yml"
).split()
# What a file of any name begins with -> what it is then.
_BEGINNINGS = {
    rb"\x1f\x8b": "packed with gzip, which only a name ending in .gz says",
    rb"PK\x03\x04|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!": "a packed archive",
    rb"PAR1": "a parquet file, which only a name ending in .parquet says",
    rb"%PDF-": "a PDF",
    rb"\{\\rtf": "RTF",
    rb"\s*(?i:<\?xml|<!doctype html|<html|<mediawiki)": "HTML or XML",
    rb'\s*(\[\s*)?\{\s*"[^"\n]*"\s*:': "JSON, which only a name ending in .jsonl or .json says",
}
_HEAD = 4096  # bytes


def kind_of(path) -> str:
    """PLAIN, JSON_LINES or PARQUET, by the ending of a file's name, before a further .gz. UserError: one that is
    neither plain text nor read here."""
    suffixes = [suffix.lower() for suffix in pathlib.Path(path).suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if zipped else suffixes)[-1:]
    ending = suffix[0] if suffix else ""
    if ending[1:] in PACKED:
        raise UserError(f"{path}: files ending in {ending} are not unpacked here: unpack it, or pack the text with gzip")
    if ending[1:] in NOT_PLAIN or (zipped and KINDS.get(ending) == PARQUET):
        whole = ending + ".gz" * zipped
        raise UserError(f"{path}: files ending in {whole} are not read: write its text as .txt, .jsonl or .parquet")
    return KINDS.get(ending, PLAIN)


def check_plain(path, head: bytes) -> None:
    """UserError where `head`, the first bytes of a file, unpacked, is of something else than plain text."""
    for beginning, what in _BEGINNINGS.items():
        if re.match(beginning, head):
            raise UserError(f"{path}: is no plain text but {what}: name it so, or write its text as .txt or .jsonl")


def read_head(file) -> bytes:
    """The first bytes of an open file, which stays at its beginning."""
    head = file.read(_HEAD)
    file.seek(0)
    return head


def is_zipped(path) -> bool:
    return str(path).lower().endswith(".gz")


def open_bytes(path):
    """The bytes of a file, gunzipped where its name ends in .gz."""
    return gzip.open(path, "rb") if is_zipped(path) else open(path, "rb")
