import collections
import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults
from semdlm_jax.kernels import GlobalPrior
from semdlm_jax.semantics import build as building
from semdlm_jax.semantics.settings import TableSettings, from_config
from semdlm_jax.semantics.table import load_table, read_notes

SETTINGS = {"neighbors": 8, "dimensions": 32, "window": 4, "max_in_degree": 16, "min_count": 10}


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
    ids, similarities = table.ids, table.similarities
    assert ids.shape == similarities.shape == (700, 8)
    candidates = building.candidate_tokens(prepared.tokenizer, prepared.unigram, 10)
    assert (ids[~candidates] == -1).all() and candidates[ids[ids >= 0]].all()
    assert not (ids == np.arange(700)[:, None]).any()
    assert np.bincount(ids[ids >= 0]).max() <= 16
    assert (ids[candidates, 0] >= 0).mean() > 0.9


def test_embeddings_are_what_the_similarities_are_cosines_of(prepared, table):
    """Rows of unit length to 1e-6, none for what has no neighbors, cosines to 1e-5: float32 sums of 32 products."""
    ids, similarities, embeddings, *_ = table
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
    starts = building.prior_tokens(tokenizer)
    assert starts.shape == (700,) and starts.dtype == bool and 100 < starts.sum() < 700
    place = {piece: i for i, piece in enumerate(tokenizer.pieces)}
    assert starts[[place["▁government"], place["▁the"]]].all()
    for piece in ("▁", "s", "ing", ",", ".", "\n", "<unk>", "<mask>"):
        assert not starts[place[piece]], piece
    for i in np.flatnonzero(starts):
        assert tokenizer.pieces[i].startswith("▁") and any(map(str.isalnum, tokenizer.pieces[i]))


class Spelled:
    """A vocabulary of these pieces alone; the first is special."""

    special_ids = (0,)

    def __init__(self, pieces, mark="▁"):
        self.pieces, self.vocab_size = pieces, len(pieces)
        self.texts = tuple(piece.removeprefix("##").replace("▁", "") for piece in pieces)
        self.starts_word = np.array([piece.startswith("▁") if mark == "▁" else piece[:2] != "##" for piece in pieces])


SENTENCEPIECE = Spelled(("▁<s>", "▁word", "ing", "▁42", "▁--", "▁", ",", "a", "▁a", "\n", "▁“no", "▁né", "▁o'"))
BERT = Spelled(
    ("[PAD]", "[unused7]", "king", "##ing", "##7", "42", ",", "##-", "né", "##é", "王", "unused", "[", "é1"), "##"
)


def spelled(tokenizer, found):
    return [piece for piece, one in zip(tokenizer.pieces, found, strict=True) if one]


def test_specials_goings_on_and_punctuation_start_no_word():
    """Spelled out: a special that looks like a word, too, and a number or a word behind its quotation mark."""
    assert spelled(SENTENCEPIECE, building.prior_tokens(SENTENCEPIECE)) == ["▁word", "▁42", "▁a", "▁“no", "▁né", "▁o'"]
    assert spelled(BERT, building.prior_tokens(BERT)) == ["king", "42", "né", "王", "unused", "é1"]


def test_other_rules_for_the_prior():
    every = ["king", "##ing", "##7", "42", "né", "##é", "王", "unused", "é1"]
    assert spelled(BERT, building.prior_tokens(BERT, "pieces")) == every
    found = spelled(BERT, building.prior_tokens(BERT, "any"))
    assert found == [piece for piece in BERT.pieces if piece not in ("[PAD]", "[unused7]")]
    with pytest.raises(UserError, match="did you mean 'words'"):
        building.prior_tokens(BERT, "word")


@pytest.mark.parametrize(
    "rule, exponent, min_count", [("words", 1.0, 1), ("words", 0.5, 20), ("pieces", 0.75, 3), ("any", 1, 1)]
)
def test_the_prior_against_a_plain_count(prepared, rule, exponent, min_count):
    """Eq. 119 from the training stream, a token at a time."""
    tokenizer, counts = prepared.tokenizer, collections.Counter(prepared.splits["train"].tolist())
    weights = {}
    for i, piece in enumerate(tokenizer.pieces):
        text = piece.replace("▁", "")
        plain = any(character.isalnum() for character in text) or rule == "any"
        if i >= 5 and plain and (piece.startswith("▁") or rule != "words") and counts[i] >= min_count:
            weights[i] = counts[i] ** exponent
    expected = np.zeros(700)
    for i, weight in weights.items():
        expected[i] = weight / sum(weights.values())
    valid = building.prior_tokens(tokenizer, rule)
    found = GlobalPrior.unigram(prepared.unigram, valid, exponent=exponent, min_count=min_count).probs
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)  # float32


def test_the_prior_is_noted_beside_the_table(prepared, table):
    """What is counted and what may be jumped to, so that the file tells what the prior was."""
    for rule in ("pieces", "words"):
        building.build(prepared, **SETTINGS, prior_tokens=rule)
        notes = read_notes(prepared.directory / building.TABLE)
        np.testing.assert_array_equal(notes.counts, np.bincount(prepared.splits["train"], minlength=700))
        np.testing.assert_array_equal(notes.valid, building.prior_tokens(prepared.tokenizer, rule))
        assert notes.pieces == prepared.tokenizer.pieces


def test_the_rule_for_candidates_spelled_out():
    words = ["▁word", "ing", "▁42", "a", "▁a"]
    others = ["▁“no", "▁né", "▁o'"]
    for characters, expected in (("ascii", words), ("any", words + others), ("auto", words + others)):
        found = building.candidate_tokens(SENTENCEPIECE, None, 5, characters)
        assert spelled(SENTENCEPIECE, found) == expected, characters
    words = ["king", "##ing", "##7", "42", "unused"]
    for characters in ("ascii", "auto"):
        assert spelled(BERT, building.candidate_tokens(BERT, None, 5, characters)) == words
    every = ["king", "##ing", "##7", "42", "né", "##é", "王", "unused", "é1"]
    assert spelled(BERT, building.candidate_tokens(BERT, None, 5, "any")) == every


def test_rare_tokens_are_no_candidates_and_without_a_corpus_none_is_rare():
    counts = np.where(np.arange(14) % 2, 4, 5)
    assert spelled(BERT, building.candidate_tokens(BERT, counts, 5, "ascii")) == ["king", "##7"]
    assert len(spelled(BERT, building.candidate_tokens(BERT, counts, 4, "ascii"))) == 5
    assert len(spelled(BERT, building.candidate_tokens(BERT, None, 10**9, "ascii"))) == 5


def test_neighbors_make_sense(prepared, table):
    place = {piece: i for i, piece in enumerate(prepared.tokenizer.pieces)}
    assert place["▁would"] in table.ids[place["▁should"]] or place["▁will"] in table.ids[place["▁should"]]


def test_the_file_is_what_was_returned_and_building_again_reads_it(prepared, table, monkeypatch):
    found, _ = load_table(prepared.directory / building.TABLE, prepared.tokenizer.fingerprint)
    monkeypatch.setattr(building, "ppmi_svd", None)  # would fail if called
    for other in (found, building.build(prepared, **SETTINGS)):
        for one, wanted in zip(*map(jax.tree.leaves, (other, table)), strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_other_partitions_leave_the_neighbors(prepared, table, tmp_path, monkeypatch):
    """A table of an earlier version gets its partitions with the neighbors that a run was trained on."""
    path, lines = tmp_path / "table.npz", []
    settings = TableSettings(**SETTINGS)
    save = building.save_table
    _, fingerprint, meta = building.read_table(prepared.directory / building.TABLE)
    earlier = {name: value for name, value in meta.items() if name not in building.PARTED}
    save(path, table._replace(partitions=None, ids=table.ids[:, ::-1]), fingerprint, earlier)  # of another machine
    monkeypatch.setattr(building, "nearest_neighbors", None)  # would fail if called
    for changes, sizes in (({}, [256, 64, 16]), ({"blocks": "30,3"}, [30, 3]), ({"blocks": ""}, None)):
        build = dataclasses.replace(settings, **changes)
        found = building.build_table(prepared.tokenizer, build, path, prepared, lines.append)
        np.testing.assert_array_equal(found.ids, table.ids[:, ::-1])
        read = building.read_table(path)[0]
        assert (None if read.partitions is None else read.partitions.max(1).tolist()) == sizes
    assert [line.split("(")[0] for line in lines] == [
        "partitioning the vocabulary into 256, 64, 16 blocks ",
        "partitioning the vocabulary into 30, 3 blocks ",
    ]
    special = list(prepared.tokenizer.special_ids)
    assert (table.partitions[:, special] == [[256], [64], [16]]).all()


def test_other_settings_or_an_unreadable_file_rebuild(prepared, table):
    """A damaged file, and one of before embeddings were kept."""
    path = prepared.directory / building.TABLE
    assert building.build(prepared, **{**SETTINGS, "neighbors": 5}).ids.shape == (700, 5)
    path.write_bytes(b"damaged")
    again = building.build(prepared, **SETTINGS)
    for one, wanted in zip(*map(jax.tree.leaves, (again, table)), strict=True):
        np.testing.assert_array_equal(one, wanted)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if name != "embeddings"})
    np.testing.assert_array_equal(building.build(prepared, **SETTINGS).embeddings, table.embeddings)
    np.testing.assert_array_equal(load_table(path, prepared.tokenizer.fingerprint)[0].embeddings, table.embeddings)


def test_the_command_line(prepared, table, tmp_path):
    """In a process of its own, as launch/quickstart.sh calls it."""
    settings = dataclasses.asdict(TableSettings(**SETTINGS))
    config = {"data": {"directory": str(prepared.directory)}, "semantics": settings | {"table": ""}}
    (tmp_path / "config.py").write_text(
        f"import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({config})\n"
    )
    command = [sys.executable, "-m", "semdlm_jax.semantics.build", f"--config={tmp_path}/config.py"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "700 tokens: " in run.stdout and "->" in run.stdout and "in-degree" in run.stdout
    run = subprocess.run([*command, f"--config.data.directory={tmp_path}/none"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and "semdlm_jax.data.prepare" in run.stderr


def test_counts_of_another_corpus_rebuild(prepared, table):
    """A vocabulary may be shared by corpora, BERT's is: their tables are not."""
    other = dataclasses.replace(prepared, unigram=prepared.unigram[::-1].copy())
    assert not np.array_equal(building.build(other, **SETTINGS).ids, table.ids)
    np.testing.assert_array_equal(building.build(prepared, **SETTINGS).ids, table.ids)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"neighbors": 0}, "neighbors = 0"),
        ({"max_in_degree": 0}, "max_in_degree = 0"),
        ({"hubness": "cups"}, "hubness = .cups. is unknown: did you mean .cap."),
        ({"characters": "asci"}, "did you mean 'ascii'"),
        ({"remove_components": -2}, r"remove_components = -2 .*\[-1, "),
        ({"min_count": 10**9}, "lower semantics.min_count"),
        ({"blocks": "348,16"}, "semantics.blocks = '348,16' for 695 tokens of text: give at most 347 blocks"),
        ({"remove_components": 32}, "leaves none of 32 dimensions"),
    ],
)
def test_impossible_settings_are_told(prepared, changes, words):
    with pytest.raises(UserError, match=words):
        building.build(prepared, **SETTINGS | changes)


def test_the_configuration_begins_at_the_defaults_here():
    assert from_config(defaults.get_config().semantics) == TableSettings()
