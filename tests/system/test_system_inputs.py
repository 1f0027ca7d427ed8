"""A run stays bound to the text, vocabulary and neighbors it was trained with; a table may lie anywhere."""

import json
import shutil

import numpy as np
import pytest
import tiny

from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.former import RENAMED
from semdlm_jax.semantics.table import read_table, save_table


@pytest.fixture(scope="module")
def trained_once(config_file, tmp_path_factory):
    """(flags of a configuration with data of its own, the folder of that data and of a run on it, a copy of it)."""
    place = tmp_path_factory.mktemp("inputs") / "place"
    shutil.copytree(config_file.parent / "data", place / "data")
    given = [f"--config={config_file}", f"--config.data.directory={place}/data", "--config.training.steps=3"]
    result = tiny.command("train", *given, f"--workdir={place}/run")
    assert result.status == 0, result.err
    return given, place, shutil.copytree(place, place.with_name("copy"))


@pytest.fixture
def trained(trained_once):
    """As new: (flags of a configuration with data of its own, that data's folder, the run's work directory)."""
    given, place, copy = trained_once
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    return given, place / "data", place / "run"


def starts(given, workdir):
    """What every entry point says of the work directory."""
    yield tiny.command("train", *given, f"--workdir={workdir}")
    yield tiny.command("evaluate", f"--workdir={workdir}", "--checkpoint=latest", "--samples=0")
    yield tiny.command("generate", f"--workdir={workdir}", "--checkpoint=latest", "--num_samples=1", "--steps=1")


def test_a_run_refuses_other_neighbors(trained):
    given, data, workdir = trained
    path = data / "neighbors.npz"
    built = tiny.command("semantics.build", *given, "--config.semantics.window=1")
    assert built.status == 0, built.err
    for result in starts(given, workdir):
        tiny.assert_refused(result, str(workdir), "another neighbor table", str(path), "another work directory")
    assert tiny.command("semantics.build", *given).status == 0
    # The last bits of a similarity are the machine's, and no other neighbors.
    table, fingerprint, meta = read_table(path)
    similarities = np.where(table.ids >= 0, table.similarities * (1 - 1e-6), 0.0)
    save_table(path, table._replace(similarities=similarities), fingerprint, meta)
    assert [result.status for result in starts(given, workdir)] == [0, 0, 0]


def test_a_run_refuses_other_text(trained, config_file):
    """Of the same settings and vocabulary: nothing but what the text is tells them apart."""
    given, data, workdir = trained
    former = open_prepared(data)
    text = (config_file.parent / "text.txt").read_text()
    other = data.parent / "text.txt"
    shutil.copytree(data, data.parent / "former")
    learned = f"--config.data.tokenizer=sentencepiece:{data.parent}/former/tokenizer.model"
    fixed = [*given, f"--config.data.corpus=text:{other}", learned]

    def prepare(text):
        other.write_text(text)
        shutil.rmtree(data)
        for step in ("data.prepare", "semantics.build"):
            result = tiny.command(step, *fixed)
            assert result.status == 0, result.err
        assert open_prepared(data).tokenizer.fingerprint == former.tokenizer.fingerprint

    prepare(text)
    assert tiny.command("train", *fixed, f"--workdir={workdir}-one").status == 0
    prepare(text + "\n\nba be bi")
    for result in starts(fixed, f"{workdir}-one"):
        tiny.assert_refused(result, "another text", str(data))


def test_a_run_refuses_another_vocabulary(trained):
    """One learned anew under the same settings gives other pieces the ids that the network has learned."""
    given, data, workdir = trained
    record = json.loads((workdir / "config.json").read_text())
    assert record["trained_on"]["vocabulary"] == open_prepared(data).tokenizer.fingerprint
    record["trained_on"]["vocabulary"] = "0" * 64
    (workdir / "config.json").write_text(json.dumps(record))
    for result in starts(given, workdir):
        tiny.assert_refused(result, "another vocabulary", str(data), "000000000000")


def test_a_run_recorded_without_them_goes_on(trained):
    given, _, workdir = trained
    record = json.loads((workdir / "config.json").read_text())
    del record["trained_on"], record["table_made"], record["semantics"]["table"], record["network"]["attention"]
    (workdir / "config.json").write_text(json.dumps(record))
    assert [result.status for result in starts(given, workdir)] == [0, 0, 0]
    assert "trained_on" not in json.loads((workdir / "config.json").read_text())


def test_a_run_recorded_in_former_words_goes_on(trained):
    """Under the former names of keys and of the table's file, whose digest is still compared."""
    given, data, workdir = trained
    record = json.loads((workdir / "config.json").read_text())
    for former, key in RENAMED.items():
        section, _, name = key.partition(".")
        if name in record[section]:  # keys of the kernel stand there as the system sets them
            record[section][former.partition(".")[2]] = record[section].pop(name)
    assert "neighbour table" in record["trained_on"] and "neighbors" not in record["semantics"]
    (workdir / "config.json").write_text(json.dumps(record))
    (data / "neighbors.npz").rename(data / "neighbours.npz")
    assert [result.status for result in starts(given, workdir)] == [0, 0, 0]
    record["trained_on"]["neighbour table"] = "0" * 64
    (workdir / "config.json").write_text(json.dumps(record))
    for result in starts(given, workdir):
        tiny.assert_refused(result, "another neighbor table", "000000000000")


def test_a_table_anywhere(trained, tmp_path):
    given, data, _ = trained
    beside = (data / "neighbors.npz").read_bytes()
    path, missing = tmp_path / "narrow.npz", tmp_path / "none" / "narrow.npz"
    options = [*given, f"--config.semantics.table={path}", "--config.semantics.window=1"]
    refused = tiny.command("semantics.build", *given, f"--config.semantics.table={missing}")
    tiny.assert_refused(refused, "config.semantics.table", "make it")
    result = tiny.command("semantics.build", *options)
    assert result.status == 0 and result.out.endswith(f"written to {path}\n"), result.err
    assert (data / "neighbors.npz").read_bytes() == beside
    result = tiny.command("train", *given, f"--config.semantics.table={missing}", f"--workdir={tmp_path}/other")
    tiny.assert_refused(result, str(missing), "no neighbor table")
    result = tiny.command("train", *given, f"--config.semantics.table={path}", f"--workdir={tmp_path}/other")
    assert result.status == 0, result.err
    record = json.loads((tmp_path / "other" / "config.json").read_text())
    # How it was built is with the table: the configuration may describe another.
    assert (record["table_made"]["window"], record["semantics"]["window"]) == (1, 4)
    read = load_trained(tmp_path / "other", "latest")
    wanted = read_table(path)[0].ids[:, :4]
    found = np.asarray(read.objective.kernel.table.ids)
    np.testing.assert_array_equal(found, np.where(wanted >= 0, wanted, len(wanted)))
    assert not np.array_equal(wanted, read_table(data / "neighbors.npz")[0].ids[:, :4])


def test_a_table_may_move_between_two_starts(trained, tmp_path):
    given, data, workdir = trained
    moved = shutil.copy(data / "neighbors.npz", tmp_path / "moved.npz")
    result = tiny.command("train", *given, f"--config.semantics.table={moved}", f"--workdir={workdir}")
    assert result.status == 0 and "trained to its 3 steps" in result.out, result.err
    narrow = [*given, f"--config.semantics.table={tmp_path}/narrow.npz"]
    assert tiny.command("semantics.build", *narrow, "--config.semantics.window=1").status == 0
    result = tiny.command("train", *narrow, f"--workdir={workdir}")
    tiny.assert_refused(result, "another neighbor table", "narrow.npz")


def test_systems_without_neighbors_need_no_table(config_file, tmp_path):
    """What measures or weighs neighbors is left out, or refused; a table that is built later changes nothing."""
    data, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(config_file.parent / "data", data)
    (data / "neighbors.npz").unlink()
    options = [f"--config.data.directory={data}", f"--workdir={workdir}", "--config.training.steps=3"]
    result = tiny.command("train", f"--config={config_file}:mdlm", *options)
    assert result.status == 0, result.err
    report, page = tmp_path / "report.json", tmp_path / "trace.html"
    result = tiny.command("evaluate", f"--workdir={workdir}", "--samples=2", f"--output={report}")
    assert result.status == 0, result.err
    figures = json.loads(report.read_text())["sections"]["generation"]["figures"]
    basin, entropy = (figures[name]["values"]["generated"]["value"] for name in ("basin_index", "entropy_nats"))
    assert basin is None and entropy > 0
    write = ["generate", f"--workdir={workdir}", "--num_samples=2", "--steps=2"]
    result = tiny.command(*write, "--lambda_freq=0.5", f"--trace={page}")
    assert result.status == 0 and page.exists(), result.err
    tiny.assert_refused(tiny.command(*write, "--lambda_sem=0.5"), "lambda_sem = 0.5", "semdlm_jax.semantics.build")
    shutil.copy(config_file.parent / "data" / "neighbors.npz", data)
    result = tiny.command("train", f"--config={config_file}:mdlm", *options[:2], "--config.training.steps=4")
    assert result.status == 0 and f"continuing {workdir} from step 3" in result.out, result
    assert tiny.command(*write, "--lambda_sem=0.5").status == 0
