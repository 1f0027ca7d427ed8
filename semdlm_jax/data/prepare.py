"""Corpus to a directory of token files, once.

    python -m semdlm_jax.data.prepare --config=configs/quickstart.py        config.data: what, where, in which pieces
    python -m semdlm_jax.data.prepare --config=… --check                    every byte of it is as it was written
    python -m semdlm_jax.data.prepare --dataset=lm1b --source=DIR_OR_ARCHIVE

The last turns the One Billion Word Benchmark's own files into the dataset that --config=configs/lm1b.py then reads;
it goes below TFDS_DATA_DIR, or ~/tensorflow_datasets.
"""

import dataclasses
import pathlib
import sys

import numpy as np
from absl import flags

from semdlm_jax import cli, config_flag, keys
from semdlm_jax.data import corpora
from semdlm_jax.data.corpora import SPLITS
from semdlm_jax.data.encoding import encode_corpus, padding_report
from semdlm_jax.data.given import corpus_of
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.lm1b import prepare_lm1b
from semdlm_jax.data.prepared import COMMAND, LEARNT, UNIGRAM, describe, open_prepared, sampled, write_meta
from semdlm_jax.data.sample import draw_sample
from semdlm_jax.data.sentencepieces import SentencePieceTokenizer
from semdlm_jax.data.store import appearing, locked
from semdlm_jax.data.tokenizers import given_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.storage import storage_errors


def prepare(
    corpus,
    directory,
    vocab_size,
    lowercase,
    progress=lambda line: None,
    tokenizer=LEARNT,
    length=None,
    normalize=True,
    byte_fallback=False,
):
    """Learns a vocabulary on the train split unless one is given, encodes every split and writes `directory`; returns
    it opened.

    corpus: of given.corpus_of. vocab_size: of a vocabulary to be learnt; a given one has its own. progress: called
    with a line of text as the work goes on. tokenizer: as in `tokenizers.given_tokenizer`. length: L of the rows whose
    padding is reported. normalize, byte_fallback: of SentencePiece vocabularies, see `SentencePieceTokenizer`.
    With the same corpus and settings the finished directory is opened at once; another process
    that prepares it is waited for. The directory appears whole or not at all, and what a killed process left is
    cleared away. Memory holds a batch of documents, not the corpus (unless that is in memory itself).
    UserError: the directory exists with other settings, or holds something else; bad text; no text for a split; a full
    disk.
    """
    directory = pathlib.Path(directory)
    if directory.name in ("", ".."):
        directory = directory.resolve()  # whose neighbors by name the lock and the unfinished directory are
    given = given_tokenizer(tokenizer, lowercase)
    settings = {**corpus.settings, "lowercase": bool(lowercase), "tokenizer": tokenizer}
    if tokenizer.partition(":")[0] == LEARNT:
        settings["normalize"] = bool(normalize)
        given = given and dataclasses.replace(given, normalized=bool(normalize))
    if tokenizer == LEARNT:
        settings = {"vocab_size": int(vocab_size), **settings, "byte_fallback": bool(byte_fallback)}
    with storage_errors(directory), locked(directory, progress):
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            return _reopen(directory, settings, corpus, given, progress)
        stamp, learnt_from = corpora.stamp_of(corpus), {}
        if given is None:
            given, learnt_from = LEARNERS[tokenizer](corpus, settings, progress)
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
                "skipped": dataclasses.asdict(corpus.skipped),
                "sha256_of_splits": {split: found.hexdigest() for split, found in digest.splits.items()},
                **learnt_from,
                "settings": {**settings, "corpus_sha256": digest.hex()},
                "corpus_files": stamp,
            }
            write_meta(folder, meta, given)
    return open_prepared(directory)


def _learn_pieces(corpus, settings, progress):
    """(a vocabulary of the train split, for meta.json the part of it that it was learnt from: nothing of all)."""
    vocab_size, lowercase, normalize = (settings[name] for name in ("vocab_size", "lowercase", "normalize"))
    progress(f"learning a vocabulary of {vocab_size} pieces")
    sample = draw_sample(_training_text(corpus), lowercase, normalize)
    told = {} if sample.whole else {"sample": {"characters": sample.characters, "of": sample.of}}
    if told:
        progress(sampled(told["sample"]))
    learnt = SentencePieceTokenizer.learn(sample, vocab_size, lowercase, normalize, settings["byte_fallback"])
    return learnt, told


def _learn_characters(corpus, settings, progress):
    """As `_learn_pieces`, of all of the split: every character of it."""
    progress("learning the alphabet")
    return HuggingFaceTokenizer.of_characters(_training_text(corpus), settings["lowercase"]), {}


# data.tokenizer -> function(corpus, settings of meta.json, progress) -> (Tokenizer, what meta.json says of it)
LEARNERS = {LEARNT: _learn_pieces, "characters": _learn_characters}


def _training_text(corpus):
    return (part.text for part in corpus.parts() if part.split == "train")


def _reopen(directory, settings, corpus, given, progress):
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
    return prepared if "files" in prepared.meta else _sealed(directory, progress)


def _sealed(directory, progress):
    """A directory prepared before files were sealed, opened; they are sealed where it can be written."""
    prepared = open_prepared(directory, whole=True)
    try:
        write_meta(directory, prepared.meta, prepared.tokenizer)
    except UserError as error:
        progress(f"{directory} has no digests of its files and cannot be given them: {error}")
        return prepared
    progress(f"{directory} was prepared without digests of its files: they are taken now")
    return open_prepared(directory)


def main(data, check=False):
    """Prepares config.data, or checks what is prepared."""
    if data.corpus == "synthetic":
        raise UserError("config.data.corpus = 'synthetic' draws tokens at random: there is nothing to prepare")
    if check:
        print(check_prepared(data.directory))
        return
    if line := _tell_unread(data):
        print(line, flush=True)
    corpus = corpus_of(data)
    prepared = prepare(
        corpus,
        data.directory,
        data.vocab_size,
        data.lowercase,
        progress=lambda line: print(line, flush=True),
        tokenizer=data.tokenizer,
        length=data.length,
        normalize=data.normalize,
        byte_fallback=data.byte_fallback,
    )
    print(describe(prepared, padded=data.protocol == "padded"))


def _tell_unread(data) -> str:
    """A line on keys that are not at their defaults and that nothing reads here, '' where there are none."""
    flat = {f"data.{key}": value for key, value in data.items()}
    options = {key: keys.KEYS[key] for key in flat if key in keys.KEYS}
    names = [key for key, one in options.items() if one.only and flat[key] != one.default]
    unread = [f"{key} = {flat[key]!r}" for key in names if not options[key].is_read(lambda other: [flat[other]])]
    return f"note: nothing reads {', '.join(unread)} with data.tokenizer = {data.tokenizer!r}" if unread else ""


def check_prepared(directory) -> str:
    """A sentence on a prepared directory every byte of which is as it was written. UserError: it is not."""
    meta = open_prepared(directory, whole=True).meta
    if "files" not in meta:
        return f"{directory} fits together, but has no digests of its files: run {COMMAND} to take them"
    size = sum(seal["bytes"] for seal in meta["files"].values())
    return f"{directory} is as it was written: {len(meta['files'])} files, {size:,} bytes"


def prepare_dataset(dataset, source):
    """The last command above."""
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
        CONFIG = config_flag.define_config_flag()
        CHECK = flags.DEFINE_bool("check", False, "Only check that every byte prepared is as it was written.")
        cli.run(lambda: main(CONFIG.value.data, CHECK.value), needs=["data"])
