"""Reading checkpoints beside whoever writes them: nothing is changed, and what vanishes is passed over."""

import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_checkpoints import ABSTRACT, assert_restores, batches, flip, largest, truncate

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import integrity
from semdlm_jax.runtime.checkpoint_reader import CheckpointReader

PARTS = {"ema_params": ABSTRACT.ema_params}


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run"


def everything(folder):
    return {path: (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def reader(folder):
    """A reader, and the lines that it reports."""
    reports = []
    return CheckpointReader(folder, best_metric="loss", report=reports.append), reports


@pytest.mark.parametrize("which", ["latest", "best"])
@pytest.mark.parametrize("harm", [flip, truncate, os.remove])
def test_a_damaged_one_is_passed_over_where_it_lies(saved, folder, which, harm):
    harm(largest(folder / "2"))
    (folder / "3.orbax-checkpoint-tmp").mkdir()
    before, (checkpoints, reports) = everything(folder), reader(folder)
    assert_restores(checkpoints, which, 1, saved[1])
    parts, step = checkpoints.restore_parts(PARTS, which)
    array, truth = checkpoints.read_array("ema_params/kernel", which), saved[1][1][0].ema_params["kernel"]
    np.testing.assert_array_equal(parts["ema_params"]["kernel"], truth)
    np.testing.assert_array_equal(array, truth)
    assert step == checkpoints.find(PARTS, which) == 1
    assert everything(folder) == before
    assert len(reports) == 4 and all("damaged or being deleted" in line and "passed over" in line for line in reports)


def test_the_one_asked_for_is_damaged(folder):
    truncate(largest(folder / "2"))
    with pytest.raises(UserError, match=r"checkpoint .*/2 is damaged: put back its files, or .*: there are 1$"):
        reader(folder)[0].find(PARTS, 2)


@pytest.mark.parametrize("which, told", [("best", 1), ("latest", 0)])
def test_where_none_is_the_best_the_latest_is_read_and_told(saved, folder, which, told):
    checkpoints = CheckpointReader(folder, best_metric="other", report=(reports := []).append)
    assert_restores(checkpoints, which, 2, saved[1])
    assert len(reports) == told and all(
        "has a 'other' recorded: the latest is read, step 2" in line for line in reports
    )


def test_one_that_was_renamed_by_hand(saved, folder):
    (folder / "1.orbax-checkpoint-tmp-9").mkdir()
    (folder / "7").write_text("no checkpoint")
    for name in ("2.bak", "02"):
        (folder / "2").rename(folder / name)
        assert_restores(reader(folder)[0], "latest", 1, saved[1])  # the other one is meant
        (folder / "1").rename(folder / "1.deleting")
        with pytest.raises(UserError, match=f"no checkpoint in {folder} has its step .* but {name} looks like one"):
            reader(folder)[0].find(PARTS)
        (folder / "1.deleting").rename(folder / "1")
        (folder / name).rename(folder / "2")


def test_where_all_are_damaged_nothing_is_said_of_deleting_the_run(folder):
    for step in ("1", "2"):
        truncate(largest(folder / step))
    before, (checkpoints, _) = everything(folder), reader(folder)
    with pytest.raises(UserError) as error:
        checkpoints.restore(ABSTRACT)
    assert "no intact checkpoint" in str(error.value) and "delete" not in str(error.value)
    assert everything(folder) == before


def vanishing(monkeypatch, kind, name, after, act):
    """`act()` is done once, before or after the first call of kind.name."""
    former, left = getattr(kind, name), [act]

    def called(*arguments, **options):
        if not after and left:
            left.pop()()
        found = former(*arguments, **options)
        if after and left:
            left.pop()()
        return found

    monkeypatch.setattr(kind, name, called)


MOMENTS = {
    "before it is checked": (integrity, "damage", False),
    "before it is read": (integrity, "damage", True),
    "while it is read": (ocp.Checkpointer, "restore", False),
    "when it has been read": (ocp.Checkpointer, "restore", True),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", ["renamed", "emptied"])
def test_what_vanishes_is_no_damage(saved, folder, monkeypatch, moment, way):
    """It is deleted at once, or file by file in its place."""
    checkpoints, reports = reader(folder)

    def vanish():
        if way == "renamed":
            os.rename(folder / "2", folder / "2.deleting")
        largest(folder / "2.deleting" if way == "renamed" else folder / "2").unlink()

    vanishing(monkeypatch, *MOMENTS[moment], vanish)
    assert_restores(checkpoints, "latest", 1, saved[1])
    assert len(reports) == (way == "emptied")


def test_a_newer_one_takes_the_place_of_what_was_listed(saved, folder, tmp_path, monkeypatch):
    os.rename(folder / "2", tmp_path / "2")
    checkpoints, reports = reader(folder)

    def go_on():
        os.rename(tmp_path / "2", folder / "2")
        shutil.rmtree(folder / "1")

    vanishing(monkeypatch, ocp.Checkpointer, "restore", False, go_on)
    assert_restores(checkpoints, "latest", 2, saved[1])
    assert reports == []
    with pytest.raises(UserError, match="no checkpoint at step 1"):
        checkpoints.restore(ABSTRACT, step=1)


def test_an_error_of_an_intact_one_is_not_tried_again(folder, monkeypatch):
    def fails(self, state):
        calls.append(state)
        raise ValueError("of another pipeline")

    calls, before = [], everything(folder)
    monkeypatch.setattr(type(batches()), "set_state", fails)
    with pytest.raises(UserError, match="does not fit this data pipeline"):
        reader(folder)[0].restore(ABSTRACT, batches())
    assert len(calls) == 1 and everything(folder) == before


@pytest.mark.parametrize("name", ["integrity.json", "empty"])
def test_a_pipe_is_damage_and_hangs_nobody(tmp_path, name):
    (tmp_path / "empty").write_text("")
    integrity.seal(tmp_path)
    assert integrity.damage(tmp_path) is None
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert integrity.damage(tmp_path) == f"{name} is no file"
    if name == "integrity.json":
        with pytest.raises(UserError, match="a device or a pipe"):
            integrity.digest(tmp_path)
