"""The One Billion Word Benchmark's own files to the dataset `lm1b` of tensorflow-datasets, without TensorFlow."""

import contextlib
import pathlib
import re
import shutil
import tarfile
import zlib

from semdlm_jax.data.store import locked
from semdlm_jax.data.tfds_source import data_directory, library
from semdlm_jax.errors import UserError
from semdlm_jax.storage import check_regular, storage_errors

VERSION = "1.1.0"
ROOT = "1-billion-word-language-modeling-benchmark-r13output"
# split -> files, as tensorflow-datasets divides them
SHARDS = {
    "train": re.compile(r"training-monolingual\.tokenized\.shuffled/(news\.en-\d+-of-\d+)$"),
    "test": re.compile(r"heldout-monolingual\.tokenized\.shuffled/(news\.en\.heldout-\d+-of-\d+)$"),
}


def prepare_lm1b(source, progress=lambda line: None):
    """Writes the dataset below `tfds_source.data_directory()` and returns its directory; at once where it is there.

    source: the extracted benchmark (its own folder, or the one around it), or its .tar.gz. Sentences have the keys,
    and so the order, that tensorflow-datasets gives them. UserError: no such files, a damaged archive, or no
    tensorflow-datasets; then nothing is left behind.
    """
    directory = data_directory() / "lm1b" / VERSION
    source = pathlib.Path(source)
    if not source.exists():
        raise UserError(f"--source={source}: no such file or directory: give the benchmark's folder or archive")
    check_regular(source)  # it is read once for each split
    with storage_errors(directory), locked(directory, progress):
        if (directory / "dataset_info.json").exists():
            return directory
        for stale in directory.parent.glob(f"incomplete.*_{VERSION}"):  # of a preparation that was killed
            shutil.rmtree(stale)
        with contextlib.suppress(OSError):
            directory.rmdir()
        builder = _builder(source)
        progress(f"preparing {directory} from {source}")
        builder.download_and_prepare()
    return directory


def sentences(source, split):
    """(key, sentence) of a split of the benchmark. UserError: none of its files there, a damaged archive or file."""
    found = False
    try:
        for name, lines in _shards(pathlib.Path(source), SHARDS[split]):
            found = True
            for number, line in enumerate(lines):
                try:
                    text = line.decode().strip()
                except UnicodeDecodeError:
                    raise UserError(f"{source}: {name}, line {number + 1}: not UTF-8 text: fetch it again") from None
                yield f"{name}_{number}", text
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"--source={source}: cannot be read to its end ({error}): fetch it again") from None
    if not found:
        raise UserError(
            f"--source={source} holds no {split} files of the benchmark: give the folder {ROOT} or its archive"
        )


def _shards(source, pattern):
    """(file name, its lines in bytes) of the files whose path matches."""
    if source.is_dir():
        for path in sorted(source.rglob("news.en*")):
            if match := pattern.search(path.as_posix()):
                with open(path, "rb") as file:
                    yield match[1], file
        return
    with tarfile.open(source, "r|*") as archive:  # one pass: the archive is never unpacked
        for member in archive:
            if member.isfile() and (match := pattern.search(member.name)):
                file = archive.extractfile(member)
                assert file is not None  # of a regular file
                yield match[1], file


def _builder(source):
    tfds = library()

    class Lm1b(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "lm1b"
        VERSION = tfds.core.Version(VERSION)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description="One Billion Word Benchmark: a sentence an example, tokenized and shuffled by its authors.",
                features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            )

        def _split_generators(self, dl_manager):
            del dl_manager  # nothing is fetched
            return {split: self._generate_examples(split) for split in SHARDS}

        def _generate_examples(self, split):
            for key, text in sentences(source, split):
                yield key, {"text": text}

    return Lm1b(data_dir=data_directory(), file_format="array_record")
