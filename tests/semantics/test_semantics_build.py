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
    ids, similarities, _ = table
    assert ids.shape == similarities.shape == (700, 8)
    candidates = building.candidate_tokens(prepared.tokenizer, prepared.unigram, 10)
    assert (ids[~candidates] == -1).all() and candidates[ids[ids >= 0]].all()
    assert not (ids == np.arange(700)[:, None]).any()
    assert np.bincount(ids[ids >= 0]).max() <= 16
    assert (ids[candidates, 0] >= 0).mean() > 0.9


def test_embeddings_are_what_the_similarities_are_cosines_of(prepared, table):
    """Rows of unit length to 1e-6, none for what has no neighbours, cosines to 1e-5: float32 sums of 32 products."""
    ids, similarities, embeddings = table
    assert embeddings.shape == (700, 32) and embeddings.dtype == np.float32
    candidates = building.candidate_tokens(prepared.tokenizer, prepared.unigram, 10)
    assert not embeddings[~candidates].any()
    lengths = np.linalg.norm(embeddings, axis=1)
    known = lengths > 0
    np.testing.assert_allclose(lengths[known], 1, atol=1e-6)
    assert known[candidates].mean() > 0.9 and known[ids[ids >= 0]].all()
    rows, places = np.nonzero(ids >= 0)
    cosines = np.sum(embeddings[rows] * embeddings[ids[rows, places]], axis=1)
    np.testing.assert_allclose(cosines, similarities[rows, places], atol=1e-5)


def test_what_a_jump_may_produce(prepared):
    tokenizer = prepared.tokenizer
    starts = building.word_starts(tokenizer)
    assert starts.shape == (700,) and starts.dtype == bool and 100 < starts.sum() < 700
    place = {piece: i for i, piece in enumerate(tokenizer.pieces)}
    assert starts[[place["▁government"], place["▁the"]]].all()
    for piece in ("▁", "s", "ing", ",", ".", "\n", "<unk>", "<mask>"):
        assert not starts[place[piece]], piece
    for i in np.flatnonzero(starts):
        assert tokenizer.pieces[i].startswith("▁") and any(map(str.isalnum, tokenizer.pieces[i]))


class Spelled:
    """A vocabulary of these pieces alone."""

    pieces = ("▁<s>", "▁word", "ing", "▁42", "▁--", "▁", ",", "a", "▁a", "\n", "▁“no")
    special_ids = (0,)
    vocab_size = len(pieces)


def test_specials_goings_on_and_punctuation_start_no_word():
    """Spelled out: a special that looks like a word, too, and a number or a word behind its quotation mark."""
    starts = building.word_starts(Spelled)
    found = [piece for piece, start in zip(Spelled.pieces, starts, strict=True) if start]
    assert found == ["▁word", "▁42", "▁a", "▁“no"]


def test_neighbours_make_sense(prepared, table):
    place = {piece: i for i, piece in enumerate(prepared.tokenizer.pieces)}
    assert place["▁would"] in table.ids[place["▁should"]] or place["▁will"] in table.ids[place["▁should"]]


def test_the_file_is_what_was_returned_and_building_again_reads_it(prepared, table, monkeypatch):
    found = load_table(prepared.directory / building.TABLE, prepared.tokenizer.fingerprint)
    monkeypatch.setattr(building, "ppmi_svd", None)  # would fail if called
    for other in (found, building.build(prepared, **SETTINGS)):
        for one, wanted in zip(other, table, strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_other_settings_or_an_unreadable_file_rebuild(prepared, table):
    """A damaged file, and one of before embeddings were kept."""
    path = prepared.directory / building.TABLE
    assert building.build(prepared, **{**SETTINGS, "neighbours": 5}).ids.shape == (700, 5)
    path.write_bytes(b"damaged")
    for one, wanted in zip(building.build(prepared, **SETTINGS), table, strict=True):
        np.testing.assert_array_equal(one, wanted)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if name != "embeddings"})
    np.testing.assert_array_equal(building.build(prepared, **SETTINGS).embeddings, table.embeddings)
    np.testing.assert_array_equal(load_table(path, prepared.tokenizer.fingerprint).embeddings, table.embeddings)


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
