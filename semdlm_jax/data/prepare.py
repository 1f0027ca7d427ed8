"""Corpus to a directory of token files, once.

    python -m semdlm_jax.data.prepare --config=configs/quickstart.py        config.data: what, where, in which pieces
    python -m semdlm_jax.data.prepare --dataset=lm1b --source=DIR_OR_ARCHIVE

The second turns the One Billion Word Benchmark's own files into the dataset that --config=configs/lm1b.py then reads;
it goes below TFDS_DATA_DIR, or ~/tensorflow_datasets.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np
from absl import flags

from semdlm_jax import cli
from semdlm_jax.data import corpora
from semdlm_jax.data.encoding import count_tokens, encode_corpus, padding_report, starts_file, tokens_file
from semdlm_jax.data.lm1b import prepare_lm1b
from semdlm_jax.data.protocols import document_starts
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.store import appearing, locked
from semdlm_jax.data.tokenizers import Tokenizer, given_tokenizer, load_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.storage import storage_errors

COMMAND = "python -m semdlm_jax.data.prepare --config=…"
SPLITS = ("train", "valid", "test")
META, UNIGRAM = "meta.json", "unigram.npy"
LEARNT = "sentencepiece"  # the tokenizer of directories prepared before others were there


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared directory, open for reading.

    splits: {'train' | 'valid' | 'test': [N] uint16 or int32 memmap}, streams `[begin] doc [end] [begin] doc [end] …`.
    unigram: [V] int64, how often each token occurs in train. meta: what meta.json says.
    """

    directory: pathlib.Path
    tokenizer: Tokenizer
    splits: dict
    unigram: np.ndarray
    meta: dict

    def starts(self, split):
        """[D + 1] int64: where each document of the split's stream starts, and its end."""
        path = self.directory / starts_file(split)
        if not path.exists():
            return document_starts(self.splits[split], self.tokenizer.bos_id)
        return np.load(path, mmap_mode="r")

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
        return self.unigram if split == "train" else count_tokens(self.splits[split], self.tokenizer.vocab_size)


def prepare(corpus, directory, vocab_size, lowercase, progress=lambda line: None, tokenizer=LEARNT, length=None):
    """Learns a vocabulary on the train split unless one is given, encodes every split and writes `directory`; returns
    it opened.

    corpus: of corpora.load_corpus. vocab_size: of a vocabulary to be learnt; a given one has its own. progress: called
    with a line of text as the work goes on. tokenizer: as in `tokenizers.given_tokenizer`. length: L of the rows whose
    padding is reported. With the same corpus and settings the finished directory is opened at once; another process
    that prepares it is waited for. The directory appears whole or not at all, and what a killed process left is
    cleared away. Memory holds a batch of documents, not the corpus (unless that is in memory itself).
    UserError: the directory exists with other settings, or holds something else; bad text; no text for a split; a full
    disk.
    """
    directory = pathlib.Path(directory)
    given = given_tokenizer(tokenizer, lowercase)
    settings = {"corpus": corpus.name, "lowercase": bool(lowercase), "tokenizer": tokenizer}
    if given is None:
        settings = {"vocab_size": int(vocab_size), **settings}
    with storage_errors(directory), locked(directory, progress):
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            return _reopen(directory, settings, corpus, given)
        stamp = corpora.stamp_of(corpus)
        if given is None:
            progress(f"learning a vocabulary of {vocab_size} pieces")
            train = (part.text for part in corpus.parts() if part.split == "train")
            given = SentencePieceTokenizer.train(train, vocab_size, lowercase)
        progress(f"encoding {corpus.origin}")
        with appearing(directory) as folder:
            given.save(folder / given.FILE)
            writers, digest = encode_corpus(corpus, given, folder, SPLITS)
            for split, writer in writers.items():
                corpora.check_split(corpus.name, split, writer.documents)
            np.save(folder / UNIGRAM, writers["train"].counts)
            meta = {
                "fingerprint": given.fingerprint,
                "origin": corpus.origin,
                "documents": {split: writer.documents for split, writer in writers.items()},
                "characters": {split: writer.characters for split, writer in writers.items()},
                "tokens": {split: writer.tokens for split, writer in writers.items()},
                "padding": None if length is None else padding_report(folder, SPLITS, length),
                "settings": {**settings, "corpus_sha256": digest},
                "corpus_files": stamp,
            }
            (folder / META).write_text(json.dumps(meta, indent=2) + "\n")
    return open_prepared(directory)


def open_prepared(directory):
    """Opens what `prepare` wrote. UserError: missing, incomplete or damaged."""
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no prepared data there: run {COMMAND}")
    try:
        meta = json.loads((directory / META).read_text())
        splits = {split: np.load(directory / tokens_file(split), mmap_mode="r") for split in SPLITS}
        unigram = np.load(directory / UNIGRAM)
        expected = meta["fingerprint"], meta["tokens"], len(unigram)
        meta["settings"].setdefault("tokenizer", LEARNT)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{directory}: prepared data incomplete ({error}): remove it and run {COMMAND}") from None
    tokenizer = load_tokenizer(directory)
    found = tokenizer.fingerprint, {split: len(stream) for split, stream in splits.items()}, tokenizer.vocab_size
    if found != expected:
        raise UserError(f"{directory}: its files do not belong together: remove it and run {COMMAND}")
    return Prepared(directory, tokenizer, splits, unigram, meta)


def _reopen(directory, settings, corpus, given):
    """The directory as it is, if it was prepared so; the corpus is read only where its files have changed."""
    prepared = open_prepared(directory)
    old, settings = prepared.meta["settings"], dict(settings)
    stamp = corpora.stamp_of(corpus)
    if all(old.get(key) == value for key, value in settings.items()):
        same_files = stamp is not None and stamp == prepared.meta.get("corpus_files")
        settings["corpus_sha256"] = old["corpus_sha256"] if same_files else corpora.digest_of(corpus)
        if given is not None and given.fingerprint != prepared.tokenizer.fingerprint:
            settings["tokenizer"] += f" with pieces {given.fingerprint[:12]}"
    differing = [f"{key} ({old.get(key)!r}, now {value!r})" for key, value in settings.items() if old.get(key) != value]
    if differing:
        raise UserError(
            f"{directory} was prepared with other settings, {', '.join(differing)}: "
            "remove the directory or choose another with --config.data.directory"
        )
    return prepared


def describe(prepared, padded=False):
    """A readable summary, one line a split. padded: with what padded rows leave out."""
    meta = prepared.meta
    lines = [
        f"{prepared.directory}: {meta['origin']}",
        f"vocabulary of {prepared.tokenizer.vocab_size} pieces ({meta['settings']['tokenizer']}), "
        f"lowercase {prepared.tokenizer.lowercase}, fingerprint {prepared.tokenizer.fingerprint[:12]}",
        f"{'split':<6}{'documents':>12}{'tokens':>15}{'chars/token':>12}{'entropy':>9}{'unigram':>9}  (nats/token)",
    ]
    for split in SPLITS:
        tokens = meta["tokens"][split]
        lines.append(
            f"{split:<6}{meta['documents'][split]:>12,}{tokens:>15,}{meta['characters'][split] / tokens:>12.2f}"
            f"{prepared.unigram_entropy(split):>9.3f}{prepared.unigram_cross_entropy(split):>9.3f}"
        )
    if padded and (padding := meta.get("padding")):
        lost = ", ".join(
            f"{split} {padding['tokens_lost'][split]:,} tokens of {padding['documents_cut'][split]:,} documents"
            for split in SPLITS
        )
        lines.append(f"padded rows of {padding['length']} tokens leave out: {lost}")
    return "\n".join(lines)


def main(data):
    """Prepares config.data."""
    if data.corpus == "synthetic":
        raise UserError("config.data.corpus = 'synthetic' draws tokens at random: there is nothing to prepare")
    corpus = corpora.load_corpus(data.corpus)
    prepared = prepare(
        corpus,
        data.directory,
        data.vocab_size,
        data.lowercase,
        progress=lambda line: print(line, flush=True),
        tokenizer=data.tokenizer,
        length=data.length,
    )
    print(describe(prepared, padded=data.protocol == "padded"))


def prepare_dataset(dataset, source):
    """The second command above."""
    if dataset != "lm1b":
        raise UserError(f"--dataset={dataset}: only lm1b is known: give other text as --config.data.corpus=text:GLOB")
    if source is None:
        raise UserError("--source is missing: give the folder or archive of the One Billion Word Benchmark")
    directory = prepare_lm1b(source, progress=lambda line: print(line, flush=True))
    print(f"{directory} is prepared: go on with python -m semdlm_jax.data.prepare --config=configs/lm1b.py")


if __name__ == "__main__":
    # A data set needs no configuration, which is asked for wherever it is defined.
    if any(argument.lstrip("-").startswith("dataset") for argument in sys.argv[1:]):
        DATASET = flags.DEFINE_string("dataset", None, "the data set to prepare: lm1b")
        SOURCE = flags.DEFINE_string("source", None, "the folder or archive of its files")
        cli.run(lambda: prepare_dataset(DATASET.value, SOURCE.value))
    else:
        CONFIG = cli.define_config_flag()
        cli.run(lambda: main(CONFIG.value.data), needs=["data"])
