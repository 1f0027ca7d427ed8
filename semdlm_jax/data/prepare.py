"""Corpus to a directory of token files, once: `python -m semdlm_jax.data.prepare --config=configs/quickstart.py`."""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid

import numpy as np

from semdlm_jax import cli
from semdlm_jax.data import corpora, packing
from semdlm_jax.data.protocols import document_starts
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.errors import UserError

COMMAND = "python -m semdlm_jax.data.prepare --config=…"
SPLITS = ("train", "valid", "test")
META, MODEL, UNIGRAM = "meta.json", "tokenizer.model", "unigram.npy"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared directory, open for reading.

    splits: {'train' | 'valid' | 'test': [N] uint16 or int32 memmap}, streams `<s> doc </s> <s> doc </s> …`.
    unigram: [V] int64, how often each token occurs in train. meta: what meta.json says.
    """

    directory: pathlib.Path
    tokenizer: SentencePieceTokenizer
    splits: dict
    unigram: np.ndarray
    meta: dict

    def starts(self, split):
        """[D + 1] int64: where each document of the split's stream starts, and its end."""
        return document_starts(self.splits[split], self.tokenizer.bos_id)

    def unigram_entropy(self, split):
        """Entropy of the split's own token frequencies, specials as they occur, in nats per token."""
        counts = self._counts(split)
        frequencies = counts[counts > 0] / counts.sum()
        return float(-(frequencies * np.log(frequencies)).sum())

    def unigram_cross_entropy(self, split):
        """What the add-one train unigram pays on the split, in nats per token."""
        counts, smoothed = self._counts(split), self.unigram + 1
        return float(-(counts / counts.sum() * np.log(smoothed / smoothed.sum())).sum())

    def _counts(self, split):
        return np.bincount(self.splits[split], minlength=self.tokenizer.vocab_size)


def prepare(corpus, directory, vocab_size, lowercase, progress=lambda line: None):
    """Learns a vocabulary on the train split, encodes every split and writes `directory`; returns it opened.

    corpus: corpora.Corpus. progress: called with a line of text as the work goes on.
    With the same corpus and settings the finished directory is opened at once. The directory appears whole or not
    at all. UserError: it exists with other settings, or holds something else.
    """
    directory = pathlib.Path(directory)
    settings = {
        "corpus": corpus.name,
        "corpus_sha256": corpus.digest,
        "vocab_size": int(vocab_size),
        "lowercase": bool(lowercase),
    }
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        return _reopen(directory, settings)
    progress(f"learning a vocabulary of {vocab_size} pieces from {len(corpus.train)} documents")
    tokenizer = SentencePieceTokenizer.train(corpus.train, vocab_size, lowercase)
    streams = {}
    for split, documents in corpus.splits.items():
        progress(f"encoding {split}: {len(documents)} documents, {sum(map(len, documents)):,} characters")
        streams[split] = packing.pack(documents, tokenizer)
    meta = {
        "fingerprint": tokenizer.fingerprint,
        "origin": corpus.origin,
        "documents": {split: len(documents) for split, documents in corpus.splits.items()},
        "characters": {split: sum(map(len, documents)) for split, documents in corpus.splits.items()},
        "tokens": {split: len(stream) for split, stream in streams.items()},
        "settings": settings,
        "protocol": "packed",
    }
    _write(directory, tokenizer, streams, meta)
    return open_prepared(directory)


def open_prepared(directory):
    """Opens what `prepare` wrote. UserError: missing, incomplete or damaged."""
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no prepared data there: run {COMMAND}")
    try:
        meta = json.loads((directory / META).read_text())
        splits = {split: np.load(directory / f"{split}.npy", mmap_mode="r") for split in SPLITS}
        unigram = np.load(directory / UNIGRAM)
        expected = meta["fingerprint"], meta["tokens"], len(unigram)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: prepared data incomplete ({error}): remove it and run {COMMAND}") from None
    tokenizer = SentencePieceTokenizer.load(directory / MODEL)
    found = tokenizer.fingerprint, {split: len(stream) for split, stream in splits.items()}, tokenizer.vocab_size
    if found != expected:
        raise UserError(f"{directory}: its files do not belong together: remove it and run {COMMAND}")
    return Prepared(directory, tokenizer, splits, unigram, meta)


def _reopen(directory, settings):
    prepared = open_prepared(directory)
    old = prepared.meta["settings"]
    differing = [f"{key} ({old.get(key)!r}, now {value!r})" for key, value in settings.items() if old.get(key) != value]
    if differing:
        raise UserError(
            f"{directory} was prepared with other settings, {', '.join(differing)}: "
            "remove the directory or choose another with --config.data.directory"
        )
    return prepared


def _write(directory, tokenizer, streams, meta):
    """All files in a sibling directory, then one rename: a crash leaves the old state."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir()
    try:
        tokenizer.save(partial / MODEL)
        for split, stream in streams.items():
            np.save(partial / f"{split}.npy", stream)
        np.save(partial / UNIGRAM, np.bincount(streams["train"], minlength=tokenizer.vocab_size).astype(np.int64))
        (partial / META).write_text(json.dumps(meta, indent=2) + "\n")
        os.rename(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe(prepared):
    """A readable summary, one line a split."""
    meta = prepared.meta
    lines = [
        f"{prepared.directory}: {meta['origin']}",
        f"vocabulary of {prepared.tokenizer.vocab_size} pieces, lowercase {prepared.tokenizer.lowercase}, "
        f"fingerprint {prepared.tokenizer.fingerprint[:12]}",
        f"{'split':<6}{'documents':>10}{'tokens':>13}{'chars/token':>12}{'entropy':>9}{'unigram':>9}  (nats/token)",
    ]
    for split in SPLITS:
        tokens = meta["tokens"][split]
        lines.append(
            f"{split:<6}{meta['documents'][split]:>10,}{tokens:>13,}{meta['characters'][split] / tokens:>12.2f}"
            f"{prepared.unigram_entropy(split):>9.3f}{prepared.unigram_cross_entropy(split):>9.3f}"
        )
    return "\n".join(lines)


def main(data):
    """Prepares config.data: {corpus, directory, vocab_size, lowercase}."""
    if data.corpus == "synthetic":
        raise UserError("config.data.corpus = 'synthetic' draws tokens at random: there is nothing to prepare")
    corpus = corpora.load_corpus(data.corpus)
    prepared = prepare(
        corpus, data.directory, data.vocab_size, data.lowercase, progress=lambda line: print(line, flush=True)
    )
    print(describe(prepared))


if __name__ == "__main__":
    CONFIG = cli.define_config_flag()
    cli.run(lambda: main(CONFIG.value.data))
