"""A trained model as one folder that can be read anywhere: weights, configuration, vocabulary, neighbors.

config.json         the run's configuration, without the places of its files
portable.json       step, weights, shape of the rows, and the digests of all files but README.md
model.safetensors   the EMA weights, under their paths in the tree
tokenizer.*         the vocabulary, as prepared data have it
unigram.npy         [V] int64, how often each token occurs in training
neighbors.npz       the neighbor table, if the run has one
README.md           the model card
"""

import contextlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save

from semdlm_jax import keys
from semdlm_jax.data.portable import open_portable, write_portable
from semdlm_jax.data.sealing import check_seals, seal_of
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.data import RunData, build_run_data
from semdlm_jax.options import flatten, nest
from semdlm_jax.record import CONFIG, PARENT, PLACES, TABLE_MADE
from semdlm_jax.runtime.paths import differences, map_with_path, path_text
from semdlm_jax.semantics.table import TABLE, Notes, read_notes, read_table, save_table, table_path
from semdlm_jax.storage import check_regular, digest_of, write_text

MANIFEST, WEIGHTS, CARD = "portable.json", "model.safetensors", "README.md"
FORMAT = 1
DTYPES = ("float32", "float16")  # of stored weights


def is_portable(folder: str | os.PathLike) -> bool:
    return any(os.path.lexists(pathlib.Path(folder) / name) for name in (MANIFEST, WEIGHTS))


def write(trained: Any, folder: pathlib.Path, dtype: str = "float32") -> None:
    """Writes all files but the card into a folder, the manifest last.

    Args:
        trained: an experiment.load.Trained with prepared data, whose weights are whole on this process.
        folder: an existing folder.
        dtype: of the stored weights, one of DTYPES.

    Raises:
        OSError, UserError: the folder cannot be written.
    """
    corpus, config = trained.corpus, trained.config
    weights = {path_text(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(trained.params)[0]}
    stored = {name: np.asarray(leaf).astype(dtype) for name, leaf in weights.items()}
    (folder / WEIGHTS).write_bytes(save(stored))
    if corpus.vocabulary.table is not None:
        _copy_table(table_path(config), folder / TABLE)
    write_text(folder / CONFIG, json.dumps(_without_places(config), indent=2) + "\n")
    data = write_portable(corpus.prepared, trained.rows("train"), folder)
    files = {path.name: seal_of(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "step": trained.step, "weights": "ema", "dtype": dtype, "data": data, "files": files}
    write_text(folder / MANIFEST, json.dumps({**manifest, "sha256": digest_of(manifest)}, indent=2) + "\n")


def read_manifest(folder: str | os.PathLike) -> dict:
    """The manifest. UserError: the manifest, or a file that it names, has changed since it was written."""
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder} is no portable model of semdlm_jax, or a part of one: it has no {MANIFEST}")
    try:
        for path in folder.iterdir():
            check_regular(path)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(
                f"{folder} is a portable model of format {manifest['format']!r}, and this version reads {FORMAT}: "
                "take a newer semdlm_jax"
            )
        if manifest.pop("sha256") != digest_of(manifest):
            raise _damaged(folder, f"{MANIFEST} has other contents than were written")
        missing = [name for name in manifest["files"] if not (folder / name).is_file()]
        if missing:
            raise _damaged(folder, f"{missing[0]} is missing")
        try:
            check_seals(folder, manifest["files"])
        except UserError as error:
            raise _damaged(folder, error) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"{type(error).__name__} {error}") from None
    return manifest


def read_run_data(folder: str | os.PathLike, config: Any, manifest: dict) -> RunData:
    """The vocabulary and the neighbors. config: of `read_run`; its paths are changed to those of the folder."""
    folder = pathlib.Path(folder)
    config.data.directory, config.semantics.table = str(folder), ""
    try:
        prepared = open_portable(folder, manifest["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{type(error).__name__} {error}") from None
    return build_run_data(config, prepared)


def read_weights(folder: str | os.PathLike, abstract: Any, mend: str = "export the run again") -> Any:
    """The weights, as a tree with the shapes and shardings of `abstract`. UserError: they have other shapes; `mend` is
    what to do then."""
    path = pathlib.Path(folder) / WEIGHTS
    try:
        found = load_file(path)
    except Exception as error:  # whatever the library makes of other bytes
        raise _damaged(folder, f"{WEIGHTS}: {type(error).__name__} {error}") from None
    wanted = {path_text(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]}
    if differing := differences(*({n: list(leaf.shape) for n, leaf in tree.items()} for tree in (wanted, found))):
        raise UserError(f"{path} holds the weights of another network ({differing}): {mend}")

    def place(name, leaf):
        values = found[name].astype(leaf.dtype)
        return jax.make_array_from_callback(values.shape, leaf.sharding, lambda part: values[part])

    return map_with_path(place, abstract)


def _damaged(folder, cause):
    cause = " ".join(str(cause).split())
    return UserError(f"the portable model in {folder} is damaged ({cause}): export or download it again")


def _copy_table(path, copy):
    table, fingerprint, made = read_table(path)
    notes = Notes((), np.zeros(0, np.int64), np.zeros(0, bool))
    with contextlib.suppress(UserError):  # a table of an earlier version has no notes
        notes = read_notes(path)
    save_table(copy, table, fingerprint, {key: _anywhere(f"semantics.{key}", made[key]) for key in made}, notes)


def _without_places(config):
    """The recorded configuration without paths that exist on this machine only."""
    recorded = config.to_dict()
    recorded.pop(PLACES, None)
    flat = {key: _anywhere(key.replace(TABLE_MADE, "semantics"), value) for key, value in flatten(recorded).items()}
    flat["semantics.table"] = ""
    if PARENT in recorded:
        flat[f"{PARENT}.workdir"] = os.path.basename(recorded[PARENT]["workdir"])
    return nest(flat)


def _anywhere(key, value):
    """The value of a key of the configuration. An absolute path, or one from the home, is cut to its last name."""
    option = keys.KEYS.get(key)
    if not isinstance(value, str) or (option and not option.path):  # an unknown key is one of a user's own plug-in
        return value
    head, colon, path = value.partition(":") if option and option.path == "after" else ("", "", value)
    return head + colon + (os.path.basename(path.rstrip("/")) if path.startswith(("/", "~")) else path)
