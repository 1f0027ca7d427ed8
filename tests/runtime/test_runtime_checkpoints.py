"""Checkpoints: round trip with a Grain iterator, what is kept, every kind of damage found out; the recorded config."""

import functools
import json
import os
import shutil

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import checkpoint_reader
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.record import read_config, write_config
from semdlm_jax.runtime.state import abstract_state, apply_update, create_state

OPTIMIZER = optax.adam(1e-2)


def init(key):
    return {"kernel": jax.random.normal(key, (64, 64)), "bias": jnp.arange(3.0)}


def shard(tree):
    return jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), tree)


ABSTRACT = abstract_state(init, OPTIMIZER, shard)


@functools.cache
def updater():
    return jax.jit(lambda state: apply_update(state, state.params, OPTIMIZER, ema_decay=0.9), donate_argnums=0)


def batches():
    return iter(grain.MapDataset.range(1000).shuffle(seed=1).repeat().to_iter_dataset().batch(4))


def run(checkpointer, losses):
    """Saves after each of len(losses) updates; returns {step: (state on the host, the batch that comes next)}."""
    state, iterator, truth = create_state(init, OPTIMIZER, jax.random.key(0), shard), batches(), {}
    for step, loss in enumerate(losses, start=1):
        state = updater()(state)
        next(iterator)
        truth[step] = [jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)]
        checkpointer.save(step, state, iterator, {"loss": loss})
        state = updater()(state)  # donates what is still being written
        truth[step].append(next(iterator))
    checkpointer.wait()
    return truth


def assert_restores(checkpointer, which, step, truth):
    iterator = batches()
    state, found = checkpointer.restore(ABSTRACT, iterator, which)
    assert found == step
    assert jax.tree.structure(state) == jax.tree.structure(ABSTRACT)
    for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(truth[step][0])):
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected)
    np.testing.assert_array_equal(next(iterator), truth[step][1])


def on_disk(folder):
    return sorted(path.name for path in folder.iterdir())


def test_latest_and_best_are_kept_and_restored(tmp_path):
    checkpointer = Checkpointer(tmp_path, keep_latest=2, best_metric="loss")
    assert checkpointer.restore(ABSTRACT) is None
    truth = run(checkpointer, [5.0, 1.0, 3.0, float("nan"), 4.0])
    checkpointer.save(5, jax.tree.map(jnp.zeros_like, ABSTRACT))  # a step on disk is not written again
    assert on_disk(tmp_path) == ["2", "4", "5"]
    checkpointer.close()
    resumed = Checkpointer(tmp_path, best_metric="loss")
    assert_restores(resumed, "latest", 5, truth)
    assert_restores(resumed, "best", 2, truth)
    assert_restores(resumed, 4, 4, truth)
    resumed.save(6, truth[5][0], metrics={"loss": 0.5})
    resumed.wait()
    assert on_disk(tmp_path) == ["5", "6"]
    for which, words in ((3, "there are 5, 6"), ("lates", "no checkpoint at step lates")):
        with pytest.raises(UserError, match=words):
            resumed.restore(ABSTRACT, step=which)
    with pytest.raises(UserError, match="name the metric"):
        Checkpointer(tmp_path).restore(ABSTRACT, step="best")
    resumed.close()


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpointer = Checkpointer(folder, best_metric="loss")
    truth = run(checkpointer, [2.0, 1.0])
    checkpointer.close()
    return folder, truth


FILES = {
    "arrays": largest,
    "metadata": lambda folder: folder / "state" / "_METADATA",
    "manifest": lambda folder: folder / "state" / "manifest.ocdbt",
    "data": lambda folder: next((folder / "data").glob("process_0*")),
    "metrics": lambda folder: folder / "metrics" / "metrics",
    "seal": lambda folder: folder / "integrity.json",
}


# Left out: the best one without its metrics is not the best any more.
CASES = [
    (file, harm, which)
    for file in FILES
    for harm in (truncate, zero, flip, os.remove)
    for which in ("latest", "best")
    if (file, harm, which) != ("metrics", os.remove, "best")
]


@pytest.mark.parametrize("file, harm, which", CASES)
def test_damage_falls_back_to_the_one_before(saved, tmp_path, file, harm, which):
    folder, truth = tmp_path / "run", saved[1]
    shutil.copytree(saved[0], folder)
    harm(FILES[file](folder / "2"))
    reports = []
    checkpointer = Checkpointer(folder, best_metric="loss", report=reports.append)
    assert_restores(checkpointer, which, 1, truth)
    checkpointer.close()
    assert on_disk(folder) == ["1", "2.corrupt"]
    assert len(reports) == 1 and "damaged" in reports[0] and "2.corrupt" in reports[0] and "\n" not in reports[0]


def test_no_intact_one_left(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved[0], folder)
    for step in ("1", "2"):
        truncate(largest(folder / step))
    for _ in range(2):  # the second time only the damaged ones are there
        checkpointer = Checkpointer(folder, report=lambda line: None)
        with pytest.raises(UserError, match="no intact checkpoint"):
            checkpointer.restore(ABSTRACT)
    # A later save of the same step neither meets nor harms what was set aside.
    checkpointer.save(2, saved[1][2][0])
    checkpointer.wait()
    truncate(largest(folder / "2"))
    with pytest.raises(UserError, match="no intact checkpoint"):
        checkpointer.restore(ABSTRACT)
    checkpointer.close()
    assert on_disk(folder) == ["1.corrupt", "2.corrupt", "2.corrupt-2"]


def test_half_written_checkpoint_is_not_seen(saved, tmp_path):
    folder, truth = tmp_path / "run", saved[1]
    shutil.copytree(saved[0], folder)
    os.rename(folder / "2", folder / "2.orbax-checkpoint-tmp")
    checkpointer = Checkpointer(folder)
    assert_restores(checkpointer, "latest", 1, truth)
    checkpointer.save(2, truth[2][0], batches())
    checkpointer.close()
    assert on_disk(folder) == ["1", "2"]


def test_misfit_is_not_taken_for_damage(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved[0], folder)
    checkpointer = Checkpointer(folder)
    wider = abstract_state(lambda key: init(key) | {"bias": jnp.zeros(4)}, OPTIMIZER, shard)
    other = abstract_state(lambda key: {"kernel": jnp.zeros((64, 64))}, OPTIMIZER, shard)
    for abstract, words in ((wider, r"params/bias is \[4\] and was \[3\]"), (other, "params/bias is absent and was")):
        with pytest.raises(UserError, match=words):
            checkpointer.restore(abstract)
    checkpointer.save(3, saved[1][2][0])  # without an iterator
    with pytest.raises(UserError, match="does not fit this data pipeline"):
        checkpointer.restore(ABSTRACT, batches())
    checkpointer.close()
    assert on_disk(folder) == ["2", "3"]


@pytest.mark.parametrize("count", [2, 16])
def test_the_place_in_the_data_serves_another_number_of_processes(tmp_path, count):
    """As `count` processes would have saved it, read by the one here."""
    saver = batches()
    for _ in range(7):
        next(saver)
    for index in range(count):
        (tmp_path / f"process_{index}-of-{count}.json").write_text(json.dumps(saver.get_state()))
    reader = batches()
    checkpoint_reader._move(reader, tmp_path)
    np.testing.assert_array_equal(next(reader), next(saver))
    (tmp_path / "process_0-of-1.json").write_text(json.dumps(batches().get_state()))  # its own comes first
    reader = batches()
    checkpoint_reader._move(reader, tmp_path)
    np.testing.assert_array_equal(next(reader), next(batches()))


def test_a_missing_directory_stays_missing(tmp_path):
    assert Checkpointer(tmp_path / "none").restore(ABSTRACT) is None
    assert not (tmp_path / "none").exists()


CONFIG = {"model": {"depth": 4, "name": "small"}, "mesh": {"data": 1}, "betas": (0.9, 0.95), "extra": {}}


def test_config_is_recorded_and_compared(tmp_path):
    workdir = tmp_path / "run"
    write_config(workdir, CONFIG, free=("mesh",))
    recorded = read_config(workdir)
    assert {key: recorded[key] for key in CONFIG} == CONFIG | {"betas": [0.9, 0.95]}
    write_config(workdir, CONFIG | {"mesh": {"data": 8, "fsdp": 2}}, free=("mesh",))
    assert read_config(workdir)["mesh"] == {"data": 1}
    changed = CONFIG | {"model": {"depth": 5, "name": "small"}, "seed": 3, "mesher": 1}
    with pytest.raises(UserError) as error:
        write_config(workdir, changed, free=("mesh",))
    for words in ("model.depth is 5 and was 4", "seed is 3 and was absent", "mesher is 1 and was absent"):
        assert words in str(error.value)
    assert "model.name" not in str(error.value)
    with pytest.raises(UserError, match="betas is absent and was.*key5 is 5 and was absent; and 5 more"):
        write_config(workdir, {f"key{i}": i for i in range(8)})


def test_config_errors(tmp_path):
    for workdir in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="holds no config.json"):
            read_config(workdir)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:20])
    with pytest.raises(UserError, match="not valid JSON"):
        read_config(tmp_path)
