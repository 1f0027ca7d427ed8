"""Prepared data that are no longer what was written, in every way that files can be, told in one sentence."""

import json
import shutil

import numpy as np
import pytest

from semdlm_jax.data import prepare as preparing
from semdlm_jax.data import sealing
from semdlm_jax.data.corpora import Corpus, load_corpus
from semdlm_jax.data.prepared import open_prepared
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.wordpiece import SPECIAL_PIECES
from semdlm_jax.errors import UserError

WORDS = "the union of these states is strong and free because its people have kept it so".split()


@pytest.fixture(scope="module")
def corpus():
    texts = [" ".join(np.random.default_rng(i).choice(WORDS, size=20)) for i in range(60)]
    return Corpus(tuple(texts[:40]), tuple(texts[40:50]), tuple(texts[50:]), "text:x", "sixty sentences")


@pytest.fixture(scope="module", params=["sentencepiece", "wordpiece"])
def prepared(corpus, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("data")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_PIECES, *sorted(set(WORDS)), *map(str, range(20))]) + "\n")
    tokenizer = {"sentencepiece": "sentencepiece", "wordpiece": f"wordpiece:{folder}/vocab.txt"}[request.param]
    return preparing.prepare(corpus, folder / "data", 40, True, tokenizer=tokenizer)


def unsealed(prepared, directory):
    """A copy as it was before files were sealed."""
    shutil.copytree(prepared.directory, directory)
    meta = {key: value for key, value in prepared.meta.items() if key not in ("files", "skipped")}
    (directory / "meta.json").write_text(json.dumps(meta))
    return directory


def damages(content):
    """(what, the content damaged)."""
    yield "nothing", b""
    yield "half", content[: len(content) // 2]
    yield "short", content[:-1]
    yield "long", content + b"\0"
    yield "zeros", bytes(len(content))
    yield "noise", np.random.default_rng(0).bytes(len(content))
    yield "flipped", content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


def assert_told(directory):
    with pytest.raises(UserError) as error:
        open_prepared(directory)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(directory)) and "remove it and run python -m" in message
    return message


def test_every_damage_to_every_file_is_told(prepared, tmp_path):
    shutil.copytree(prepared.directory, tmp_path / "data")
    names = sorted(path.name for path in prepared.directory.iterdir())
    assert set(names) == {*prepared.meta["files"], "meta.json"} and len(names) == 10
    for name in names:
        path, content = tmp_path / "data" / name, (prepared.directory / name).read_bytes()
        for what, damaged in damages(content):
            if (name, what) == ("meta.json", "short"):
                continue  # it lacks its last line break alone
            path.write_bytes(damaged)
            message = assert_told(tmp_path / "data")
            assert name in message or name == "meta.json"
        path.unlink()
        if not name.endswith("starts.npy"):  # those can be found again
            assert_told(tmp_path / "data")
        with pytest.raises(UserError, match=name):
            preparing.check_prepared(tmp_path / "data")
        path.write_bytes(content)
    open_prepared(tmp_path / "data")
    for first, second in (("valid.npy", "test.npy"), ("valid.starts.npy", "train.starts.npy")):
        (tmp_path / "data" / first).write_bytes((prepared.directory / second).read_bytes())
        assert first in assert_told(tmp_path / "data")
        (tmp_path / "data" / first).write_bytes((prepared.directory / first).read_bytes())


@pytest.mark.parametrize(
    "meta", ["", "[]", "3", "null", "{}", '{"files": []}', '{"files": {"train.npy": 3}}', '{"files": {}}', "[" * 10**5]
)
def test_a_description_of_any_shape_is_told(prepared, tmp_path, meta):
    shutil.copytree(prepared.directory, tmp_path / "data")
    (tmp_path / "data" / "meta.json").write_text(meta)
    assert_told(tmp_path / "data")


def test_random_tokens_are_no_text(prepared, tmp_path):
    """With the right shape, type and ids: a seal tells, and counts do where there is none."""
    for directory in (tmp_path / "sealed", tmp_path / "unsealed"):
        if directory.name == "sealed":
            shutil.copytree(prepared.directory, directory)
        else:
            unsealed(prepared, directory)
        stream = np.load(directory / "train.npy")
        np.save(directory / "train.npy", np.random.default_rng(0).integers(5, 20, len(stream)).astype(stream.dtype))
        assert "train.npy" in assert_told(directory)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda stream: stream + np.uint16(60_000), "ids that the vocabulary has not"),
        (lambda stream: stream[:-1], "valid.npy does not hold"),
        (lambda stream: stream.astype(np.float32), "valid.npy does not hold"),
        (lambda stream: stream[None], "valid.npy does not hold"),
        (lambda stream: stream.astype(object), "incomplete"),
    ],
)
def test_directories_without_seals_have_their_ids_and_sizes_checked(prepared, tmp_path, damage, words):
    directory = unsealed(prepared, tmp_path / "data")
    assert open_prepared(directory).meta["tokens"] == prepared.meta["tokens"]
    np.save(directory / "valid.npy", damage(np.load(directory / "valid.npy")), allow_pickle=True)
    assert words in assert_told(directory)


def test_cut_starts_are_told_without_seals_too(prepared, tmp_path):
    directory = unsealed(prepared, tmp_path / "data")
    path = directory / "test.starts.npy"
    content = path.read_bytes()
    for damaged in (content[:-8], content[:50], b"", bytes(len(content))):
        path.write_bytes(damaged)
        assert_told(directory)
    np.save(path, np.load(directory / "valid.starts.npy")[:-1])
    assert "test.starts.npy" in assert_told(directory)
    path.unlink()
    np.testing.assert_array_equal(open_prepared(directory).starts("test"), prepared.starts("test"))


def test_preparing_again_seals(prepared, corpus, tmp_path):
    directory = unsealed(prepared, tmp_path / "data")
    assert "no digests" in preparing.check_prepared(directory)
    lines, settings = [], prepared.meta["settings"]
    options = {"vocab_size": 40, "lowercase": True, "tokenizer": settings["tokenizer"], "progress": lines.append}
    for _ in range(2):
        sealed = preparing.prepare(corpus, directory, **options)
        assert sealed.meta["files"] == prepared.meta["files"]
    assert len(lines) == 1 and "they are taken now" in lines[0]
    assert "is as it was written: 9 files" in preparing.check_prepared(directory)
    np.save(unsealed(prepared, tmp_path / "bad") / "train.npy", prepared.splits["train"][::-1] * 0 + 7)
    with pytest.raises(UserError, match="train.npy does not hold the tokens that unigram.npy counts"):
        preparing.prepare(corpus, tmp_path / "bad", **options)


def test_large_files_are_sampled_and_read_whole_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(sealing, "WHOLE", 10_000)
    monkeypatch.setattr(sealing, "BLOCK", 100)
    monkeypatch.setattr(sealing, "BLOCKS", 10)
    content = np.random.default_rng(0).bytes(100_001)
    path = tmp_path / "large"
    path.write_bytes(content)
    seals = {"large": sealing.seal_of(path)}
    sealing.check_seals(tmp_path, seals)
    for place in (0, 99, 100_000, 99_901, 11_100):  # head, tail and a block between
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match="large has other contents"):
            sealing.check_seals(tmp_path, seals)
    path.write_bytes(content[:5000] + b"\0" + content[5001:])
    sealing.check_seals(tmp_path, seals)
    with pytest.raises(UserError, match="large has other contents"):
        sealing.check_seals(tmp_path, seals, whole=True)
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="large has 100,000 bytes where 100,001 were written"):
        sealing.check_seals(tmp_path, seals)


def test_text_that_was_taken_for_specials_is_told(prepared, tmp_path):
    directory = unsealed(prepared, tmp_path / "data")
    stream, unigram = np.load(directory / "train.npy"), np.load(directory / "unigram.npy")
    unigram[stream[1]] -= 1
    unigram[prepared.tokenizer.mask_id] += 1
    stream[1] = prepared.tokenizer.mask_id
    np.save(directory / "train.npy", stream)
    np.save(directory / "unigram.npy", unigram)
    assert "text was taken for special tokens" in assert_told(directory)


def test_what_is_unknown_and_skipped_is_told(tmp_path):
    rows = [{"text": f"the union of states {i}"} for i in range(100)] + [{"text": None}, {"text": " "}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = SentencePieceTokenizer.train(["the union of states"] * 9, 18, True)
    model.save(tmp_path / "tokenizer.model")
    data = {"corpus": f"text:{tmp_path}/a.jsonl", "tokenizer": f"sentencepiece:{tmp_path}/tokenizer.model"}
    made = preparing.prepare(load_corpus(data["corpus"]), tmp_path / "data", 18, True, tokenizer=data["tokenizer"])
    told = preparing.describe(made)
    assert f"skipped 2 rows without text: the first is {tmp_path}/a.jsonl, line 101" in told
    assert "% of the tokens are unknown to the vocabulary" in told and "unknown  entropy" in told
    assert made.unknown_share("train") == pytest.approx((made.splits["train"] == 1).mean(), rel=0.2)
