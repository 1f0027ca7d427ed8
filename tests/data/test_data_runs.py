"""Documents in parts: a file cut in three and a long document encoded piece by piece are what they are as a whole."""

import json
import re

import numpy as np
import pytest

from semdlm_jax.data import corpora, files, packing, splitting
from semdlm_jax.data import prepare as preparing
from semdlm_jax.data.normalization import normalize

SPLITS = corpora.SPLITS


def split_blocks(text):
    """(train, valid, test) of a text in memory: what cutting a file line by line has to give."""
    blocks = [block.strip("\n") for block in re.split(r"\n[ \t\r]*\n", text) if block.strip()]
    if len(blocks) < 3:
        return "\n\n".join(blocks), "", ""
    sizes = np.array([len(block) for block in blocks])
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    valid, test = np.searchsorted(middles, [1 - 2 * splitting.HELD_OUT_FRACTION, 1 - splitting.HELD_OUT_FRACTION])
    valid = min(valid, len(blocks) - 2)
    test = min(max(test, valid + 1), len(blocks) - 1)
    return tuple("\n\n".join(run) for run in (blocks[:valid], blocks[valid:test], blocks[test:]))


def random_text(seed):
    """Lines and blocks of all the shapes that a cut could get wrong."""
    rng = np.random.default_rng(seed)
    pieces = ["\n"] * 8 + [
        " ",
        "\t",
        "\r",
        "\r\n",
        "\n\n",
        "\n \n",
        "\u2028",
        "\u00a0",
        "\x85",
        "\x1c",
        "\ufeff",
        "ΑΣ",
        "é",
        "e\u0301",
    ]
    words = ["the", "union", "of", "states", "fi", "ﬁ", "½", "a"]
    return "".join(rng.choice(pieces if rng.random() < 0.5 else words) for _ in range(rng.integers(1, 150)))


def test_a_file_is_cut_as_its_text_is(tmp_path, monkeypatch):
    path, found = tmp_path / "a.txt", 0
    for seed in range(600):
        monkeypatch.setattr(files, "PART", 1 + seed % 50)
        text = random_text(seed)
        path.write_bytes(text.encode())
        text = text.removeprefix("\ufeff")  # a byte order mark
        runs = corpora.find_runs(path)
        cut = ["".join(corpora.read_run(path, *runs[split])) if split in runs else "" for split in SPLITS]
        assert tuple(cut) == split_blocks(text), repr(text)
        assert "".join(files.read_parts(path)) == (text if text.strip() else "")
        found += "valid" in runs
    assert found > 300


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 10, 1000])
def test_three_blocks_are_enough(count, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join("word" for _ in range(count)))
    runs = corpora.find_runs(tmp_path / "a.txt")
    assert set(runs) == set(SPLITS if count >= 3 else SPLITS[:1] if count else ())
    assert sum(end - first for first, end in runs.values()) == count


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "bert-base-uncased"])
def test_parts_change_no_token(tokenizer, tmp_path, monkeypatch):
    texts = [random_text(seed) for seed in range(400)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    kept = {}
    for part in (2**18, 7):
        monkeypatch.setattr(files, "PART", part)
        monkeypatch.setattr(packing, "BATCH_PARTS", 4096 if part > 7 else 3)
        for name in ("a.txt", "a.jsonl"):
            corpus = corpora.load_corpus(f"text:{tmp_path}/{name}")
            assert part > 7 or len(list(corpus.parts())) > len(list(corpus.documents()))
            made = preparing.prepare(corpus, tmp_path / f"{name}-{part}", 60, True, tokenizer=tokenizer)
            documents = {split: [text for place, text in corpus.documents() if place == split] for split in SPLITS}
            for split, stream in made.splits.items():
                t = made.tokenizer
                wanted = [i for text in documents[split] for i in (t.bos_id, *t.encode(text), t.eos_id)]
                np.testing.assert_array_equal(stream, wanted)
                np.testing.assert_array_equal(packing.pack(documents[split], t), wanted)
                assert made.meta["characters"][split] == sum(map(len, documents[split]))
            found = made.meta["settings"]["corpus_sha256"], made.meta["documents"], made.tokenizer.fingerprint
            assert kept.setdefault(name, found) == found


def test_a_line_break_is_where_lines_may_be_parted():
    for seed in range(300):
        first, second = random_text(seed) + "\n", random_text(seed + 1000)
        for lowercase in (True, False):
            halves = [normalize(half, lowercase) for half in (first, second)]
            assert normalize(first + second, lowercase) == "\n".join(filter(None, halves))
