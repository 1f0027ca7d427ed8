"""Small corpora in files of every kind, a tokenizer that does not take every text, and settings that cut them fine."""

import dataclasses
import gzip
import json

import numpy as np
import pyarrow.parquet

from semdlm_jax.data import beam, corpora, files, packing
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.documents import Corpus
from semdlm_jax.data.given import load_splits
from semdlm_jax.data.prepare import prepare
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.data.tokenizers import TokenizerSpec

LOCAL = ["--runner=FnApiRunner"]  # in this process; DirectRunner would first look for another program
# Parts, batches and tasks of some characters; no corpus of files is read into memory.
FINE = [(files, "PART", 60), (packing, "BATCH_CHARACTERS", 200), (beam, "TASK", 3000), (corpora, "IN_MEMORY_BYTES", 0)]


def texts(count, seed=0):
    """Of one to 700 letters, in lines, the longest in several batches."""
    rng, letters = np.random.default_rng(seed), list("abcdefgh  .\n")
    return ["a" + "".join(rng.choice(letters, size)) for size in rng.integers(1, 700, count)]


def write_json(path, documents):
    with gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in documents)


def records(folder):
    """Split by documents; some of its rows have no text."""
    for number in range(6):
        write_json(folder / f"{number}.jsonl{'.gz' * (number % 2)}", [*texts(12, number), None, " "])
    pyarrow.parquet.write_table(pyarrow.table({"text": [*texts(12, 6), None]}), folder / "6.parquet")
    return load_corpus(f"text:{folder}")


def lines(folder):
    for number in range(4):
        (folder / f"{number}.txt").write_text("\n\n".join(texts(20, number)))
    return load_corpus(f"lines:{folder}")


def many_tiny_files(folder):
    """A document each, but for two blank ones."""
    for number, text in enumerate([*texts(58), "", " \n"]):
        (folder / f"{number}.txt").write_text(text)
    return load_corpus(f"text:{folder}")


def cut_files(folder):
    for number in range(3):
        (folder / f"{number}.txt").write_text("\n\n".join(texts(9, number)) if number != 1 else "")
    return load_corpus(f"text:{folder}")


def given_splits(folder):
    """Valid is drawn from train; test is one document."""
    for number in range(3):
        write_json(folder / f"{number}.jsonl", texts(30, number))
    (folder / "test.txt").write_text("\n".join(texts(6, 9)))
    return load_splits({"train": f"text:{folder}/*.jsonl", "valid": "", "test": f"text:{folder}/test.txt"})


def in_memory(folder):
    """Which only this process can read."""
    found = texts(60)
    return Corpus(tuple(found[:40]), tuple(found[40:59]), (found[59],), "toy", "letters")


CORPORA = (records, lines, many_tiny_files, cut_files, given_splits, in_memory)


@dataclasses.dataclass(frozen=True)
class Moody(OwnTokenizer):
    """Fails at one text, is interrupted at another."""

    vocabulary: tuple[str, ...] = tuple("abcdefgh .\n")

    def ids_of(self, text):
        if "bad" * 3 in text:
            raise ValueError("not this one")
        if "fade" * 3 in text:
            raise KeyboardInterrupt
        return [self.vocabulary.index(letter) for letter in text]

    def text_of(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@dataclasses.dataclass(frozen=True)
class Moods(TokenizerSpec):
    def build(self, text):
        return Moody()


def not_json(folder):
    (folder / "2.jsonl").write_text(json.dumps({"text": "a"}) + "\n{'text'\n")


def not_utf8(folder):
    (folder / "2.jsonl").write_bytes(json.dumps({"text": "a"}).encode() + b"\n\xff\n")


def not_a_string(folder):
    write_json(folder / "2.jsonl", ["a", 5])


def not_encoded(folder):
    write_json(folder / "2.jsonl", ["a", "bad" * 3])


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def check_same(corpus, folder, tokenizer):
    for name, options in {"one": {}, "beam": {"beam_options": LOCAL}}.items():
        prepare(corpus, folder / name, 40, True, tokenizer=tokenizer, length=16, **options)
    one = contents(folder / "one")
    assert contents(folder / "beam") == one and {"train.npy", "test.starts.npy", "meta.json"} < one.keys()
    assert sorted(path.name for path in folder.iterdir()) == ["beam", "corpus", "one"]
    return json.loads(one["meta.json"])
