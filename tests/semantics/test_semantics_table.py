import os
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from semdlm_jax.errors import UserError
from semdlm_jax.neighbor_lists import invert
from semdlm_jax.semantics import table

IDS = np.array([[1, 2], [2, -1], [-1, -1]])
SIMILARITIES = np.array([[0.5, 0.25], [0.125, 0], [0, 0]])
EMBEDDINGS = np.array([[0.6, 0.8], [0, 1], [0, 0]])
TABLE = table.Table(IDS, SIMILARITIES, EMBEDDINGS)


def test_round_trip(tmp_path):
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a" * 64, {"neighbors": 2, "max_in_degree": None})
    found, _ = table.load_table(path, "a" * 64)
    assert isinstance(found, table.Table)
    assert [x.dtype for x in found[:3]] == [np.int32, np.float32, np.float32]
    np.testing.assert_array_equal(found.ids, IDS)
    np.testing.assert_array_equal(found.similarities, SIMILARITIES)
    np.testing.assert_array_equal(found.embeddings, EMBEDDINGS.astype(np.float32))
    read, fingerprint, meta = table.read_table(str(path))
    assert (fingerprint, meta) == ("a" * 64, {"neighbors": 2, "max_in_degree": None})
    np.testing.assert_array_equal(read.ids, IDS)
    # Of tokens 0, 1 and 2: none hold the first, row 0 the second at rank 0, rows 0 and 1 the third at ranks 1 and 0.
    for array, expected in zip(found.inverted, ([0, 0, 1], [0, 1, 0], [0, 0, 1, 3]), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_changed_lists_are_inverted_anew(tmp_path):
    path = tmp_path / "neighbors.npz"
    for ids in (IDS, IDS[::-1]):
        table.save_table(path, TABLE._replace(ids=ids), "a", {})
        read = table.load_table(path, "a")[0]
        for array, expected in zip(read.inverted, invert(ids), strict=True):
            np.testing.assert_array_equal(array, expected)
        table.save_table(path, read._replace(ids=IDS), "a", {})
        np.testing.assert_array_equal(table.load_table(path, "a")[0].inverted.rows, [0, 0, 1])


def test_a_table_without_an_inverted_index_is_read(tmp_path):
    """As earlier versions wrote it: kernels invert it themselves."""
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a", {})
    with np.load(path) as file:
        arrays = {name: array for name, array in file.items() if not name.startswith("in_")}
    np.savez_compressed(path, **arrays)
    read = table.load_table(path, "a")[0]
    assert read.inverted is None
    np.testing.assert_array_equal(read.ids, IDS)


def test_partitions_are_kept_and_earlier_files_have_none(tmp_path):
    path, partitions = tmp_path / "neighbors.npz", np.array([[0, 0, 1], [0, 0, 0]])
    table.save_table(path, TABLE._replace(partitions=partitions), "a", {})
    read = table.load_table(path, "a")[0]
    np.testing.assert_array_equal(read.partitions, partitions)
    assert read.partitions.dtype == np.int32
    table.save_table(path, read._replace(partitions=None), "a", {})  # as earlier versions wrote it
    with np.load(path) as file:
        assert "partitions" not in file
    read = table.load_table(path, "a")[0]
    assert read.partitions is None
    np.testing.assert_array_equal(read.ids, IDS)


def test_a_table_without_embeddings_is_told_to_rebuild(tmp_path):
    """As written before they were kept: no kernel may find them missing once a run is under way."""
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a", {})
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["embeddings"]
    np.savez_compressed(path, **arrays)
    with pytest.raises(
        UserError, match=r"no neighbor table.*one with python -m semdlm_jax\.semantics\.build --config="
    ):
        table.load_table(path, "a")


def test_another_vocabulary_is_refused(tmp_path):
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a" * 64, {})
    with pytest.raises(UserError, match="of vocabulary a{12}, but the tokenizer is b{12}: rebuild with python -m"):
        table.load_table(path, "b" * 64)


def test_a_missing_table_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"python -m semdlm_jax\.semantics\.build --config="):
        table.load_table(tmp_path / "none.npz", "a")


@pytest.mark.parametrize("contents", [b"", b"not a zip file at all", None])
def test_a_damaged_table_is_told(tmp_path, contents):
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a", {})
    path.write_bytes(path.read_bytes()[:-40] if contents is None else contents)
    with pytest.raises(UserError, match="is no neighbor table, or a damaged one: build one with"):
        table.load_table(path, "a")


def test_other_arrays_and_places_are_told(tmp_path):
    table.save_table(tmp_path / "lists.npz", TABLE, "a", {})
    with np.load(tmp_path / "lists.npz") as file:
        np.savez(tmp_path / "lists.npz", **dict(file) | {"ids": IDS[0]})
        np.savez(tmp_path / "levels.npz", **dict(file) | {"partitions": IDS[0]})
    np.savez(tmp_path / "other.npz", weights=IDS)
    np.save(tmp_path / "other.npy", IDS)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        **dict.fromkeys(
            ("lists.npz", "levels.npz", "other.npz", "other.npy"), "is no neighbor table, or a damaged one"
        ),
        ".": "cannot be read (Is a directory): give a neighbor table",
        "pipe": "pipe is a device or a pipe",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            table.load_table(tmp_path / name, "a")


def test_a_failed_write_keeps_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "neighbors.npz"
    table.save_table(path, TABLE, "a", {})
    monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        table.save_table(path, TABLE._replace(ids=IDS + 1), "a", {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["neighbors.npz"]
    np.testing.assert_array_equal(table.load_table(path, "a")[0].ids, IDS)


def test_what_earlier_versions_wrote(tmp_path):
    """A table under its former name, whose settings have their former names."""
    config = ConfigDict({"data": {"directory": str(tmp_path)}, "semantics": {"table": ""}})
    assert table.table_path(config) == tmp_path / "neighbors.npz"
    table.save_table(tmp_path / "neighbours.npz", TABLE, "a", {"neighbours": 2, "centre": True, "window": 4})
    assert table.table_path(config) == tmp_path / "neighbours.npz"
    assert table.read_table(table.table_path(config))[2] == {"neighbors": 2, "center": True, "window": 4}
    table.save_table(tmp_path / "neighbors.npz", TABLE, "a", {})
    assert table.table_path(config) == tmp_path / "neighbors.npz"
