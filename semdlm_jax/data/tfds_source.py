"""Datasets that tensorflow-datasets has prepared as array_record, read without TensorFlow and without the network."""

import os
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from semdlm_jax.data import splitting
from semdlm_jax.data.files import Skipped
from semdlm_jax.errors import UserError
from semdlm_jax.extras import require

RECORDS = 4096  # read at a time
ROLES = {"train": ("train",), "valid": ("validation", "valid"), "test": ("test",)}  # names of splits elsewhere


def library():
    """tensorflow-datasets, an extra that takes a moment to import. UserError: it is not installed."""
    # It imports the second without saying so.
    require("tensorflow_datasets", "importlib_resources", "array_record", use="a dataset tfds:…")
    import tensorflow_datasets

    return tensorflow_datasets


def data_directory() -> pathlib.Path:
    """Where datasets lie: $TFDS_DATA_DIR, or ~/tensorflow_datasets as the library has it."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find_dataset(name: str) -> pathlib.Path:
    """The directory of a prepared dataset NAME, NAME/CONFIG or NAME:VERSION below `data_directory`, or of a path to
    one; the newest version of it. UserError, at once, with the command that prepares it."""
    name, _, version = name.partition(":")
    base = data_directory() / name  # a path from the root replaces what stands before it
    if (base / "dataset_info.json").is_file():
        return base
    found = [path.parent for path in base.glob(f"{version or '*'}/dataset_info.json")]
    found = [path for path in found if not path.name.startswith("incomplete.")]
    if not found:
        if name == "lm1b":
            command = (
                "python -m semdlm_jax.data.prepare --dataset=lm1b --source=DIR_OR_ARCHIVE of the benchmark's files"
            )
        else:
            command = f"tfds build {name} --file_format=array_record (with TensorFlow and a network)"
        raise UserError(
            f"corpus 'tfds:{name}' is not prepared in {base} (TFDS_DATA_DIR names another place): prepare it with "
            f"{command}"
        )
    return max(found, key=_version)


def _version(path):
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))


def open_dataset(
    name: str, skipped: Skipped, field: str, wanted: Collection[str] = tuple(ROLES)
) -> tuple[Callable[[], Iterator[tuple[str, str]]], str, tuple[str, ...]]:
    """Opens a prepared dataset. Splits that it lacks are drawn from its train split.

    Args:
      name: as `find_dataset` takes it.
      skipped: where the records without text of a pass are counted.
      field: the feature that holds the text.
      wanted: splits that are read; of the others at most what they are drawn from.

    Returns:
      (() -> (split, text) of its documents, where they come from, paths of its files).

    Raises:
      UserError: not prepared, not as array_record, without that feature or a train split.
    """
    directory = find_dataset(name)
    tfds = library()
    builder: Any = tfds.builder_from_directory(directory)
    if (kind := builder.info.file_format.value) != "array_record":
        raise UserError(
            f"{directory} is stored as {kind}: convert it with tfds convert_format --dataset_dir={directory} "
            "--out_file_format=array_record --out_path=…"
        )
    if field not in builder.info.features:
        has = ", ".join(builder.info.features)
        raise UserError(f"{directory}: has no feature {field!r} but {has}: name that of the documents as data.field")
    names = {role: next((n for n in known if n in builder.info.splits), None) for role, known in ROLES.items()}
    if names["train"] is None:
        raise UserError(f"{directory}: has no train split but {', '.join(builder.info.splits)}")
    missing = tuple(role for role in ("valid", "test") if names[role] is None)
    fraction = splitting.held_out_fraction(builder.info.splits[names["train"]].num_bytes)

    def documents():
        skipped.clear()
        for role, split in names.items():
            if split is None or role not in wanted and (role != "train" or set(missing).isdisjoint(wanted)):
                continue
            for number, text in enumerate(_texts(builder.as_data_source(split), field), 1):
                if not text.strip():
                    skipped.add(f"{directory}, record {number} of {split}")
                    continue
                drawn = splitting.split_of(text, fraction, missing) if role == "train" else role
                if drawn in wanted:
                    yield drawn, text

    files = tuple(sorted(str(path) for path in directory.iterdir() if path.is_file()))
    info = builder.info
    return documents, f"dataset {info.name} {info.version} of tensorflow-datasets", files


def _texts(source, field):
    for first in range(0, len(source), RECORDS):
        for record in source.__getitems__(list(range(first, min(first + RECORDS, len(source))))):
            try:
                text = record[field].decode()
            except AttributeError:
                raise UserError(
                    f"feature {field!r} of the dataset is no text: name one that is as data.field"
                ) from None
            except UnicodeDecodeError:
                raise UserError("a record of the dataset is not UTF-8 text: prepare it again") from None
            yield text
