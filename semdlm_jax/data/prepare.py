"""Prepares a corpus: encodes it once into a directory of token files.

    python -m semdlm_jax.data.prepare --config=configs/quickstart.py        the corpus and vocabulary of config.data
    python -m semdlm_jax.data.prepare --config=… --check                    checks that no byte of it has changed
    python -m semdlm_jax.data.prepare --config=… --beam_options='--runner=…'        by a cluster, with Apache Beam
    python -m semdlm_jax.data.prepare --dataset=lm1b --source=DIR_OR_ARCHIVE

The last command converts the files of the One Billion Word Benchmark to the dataset that --config=configs/lm1b.py
reads. It is written below TFDS_DATA_DIR, or ~/tensorflow_datasets.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from semdlm_jax import cli, config_flag, keys, remote
from semdlm_jax.data.beam import beam_encoded, check_options, words_of
from semdlm_jax.data.corpora import CORPORA
from semdlm_jax.data.documents import SPLITS, Corpus, Streamed, TrainingText, check_split, digest_of, stamp_of
from semdlm_jax.data.encoding import encode_corpus, padding_report
from semdlm_jax.data.given import corpus_of
from semdlm_jax.data.lm1b import prepare_lm1b
from semdlm_jax.data.prepared import (
    COMMAND,
    LEARNED,
    UNIGRAM,
    Prepared,
    describe,
    open_prepared,
    sources_of,
    write_meta,
)
from semdlm_jax.data.store import appearing, locked
from semdlm_jax.data.tokenizers import TOKENIZERS, build_tokenizer
from semdlm_jax.data.workers import all_cores
from semdlm_jax.errors import UserError
from semdlm_jax.plugins import options_of
from semdlm_jax.storage import PathLike, storage_errors


def prepare(
    corpus: Corpus | Streamed,
    directory: PathLike,
    vocab_size: int,
    lowercase: bool,
    progress: Callable[[str], None] = lambda line: None,
    tokenizer: str = LEARNED,
    length: int | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] | None = None,
    **options: Any,
) -> Prepared:
    """Makes a vocabulary, encodes every split with it and writes `directory`; returns it opened.

    With the same corpus and settings the finished directory is opened at once; another process that prepares it is
    waited for. The directory appears whole or not at all, and what a killed process left is removed. Memory holds a
    batch of documents, not the corpus (unless that is in memory itself).

    Args:
      corpus: of given.corpus_of.
      directory: where it is written.
      vocab_size: of a vocabulary that is learned; a given one has its own.
      lowercase: whether text is lowercased.
      progress: called with a line of text as the work goes on.
      tokenizer: what data.tokenizer names. A vocabulary that is learned is learned from the train split.
      length: L of the rows whose padding is reported; None for no report.
      workers: processes that encode text, see `workers.encoded`; their number changes no byte. None: 1.
      beam_options: of Apache Beam, as ['--runner=…', …]: its workers encode text, see `beam`, which changes no byte
        either.
      options: further options of the tokenizer, by name.

    Raises:
      UserError: the directory exists with other settings, or holds something else; bad text; no text for a split; a
        full disk; what `beam.check_options` says.
    """
    check_options(beam_options, workers)
    directory = pathlib.Path(directory)
    if directory.name in ("", ".."):
        directory = directory.resolve()  # the lock and the unfinished directory lie beside it, named after it
    if "vocab_size" in TOKENIZERS.options(tokenizer):
        options["vocab_size"] = vocab_size
    spec = TOKENIZERS.make(tokenizer, lowercase=lowercase, **options)
    text = TrainingText(corpus, progress)
    given = None if spec.learns else build_tokenizer(spec, text)
    settings = {**corpus.settings, "tokenizer": tokenizer, **_options_read(spec, tokenizer, corpus.name)}
    with storage_errors(directory), locked(directory, progress):
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            prepared = _reopen(directory, settings, corpus, given, progress)
            if beam_options is not None:
                progress(f"{directory} is prepared already: Beam has nothing to do")
            return prepared
        stamp = stamp_of(corpus)
        built = given or build_tokenizer(spec, text)
        progress(f"encoding {corpus.origin}")
        beam = None
        if beam_options is not None:
            beam = functools.partial(beam_encoded, options=beam_options, tell=progress)
        with appearing(directory) as folder:
            built.save(folder / built.FILE)
            writers, digest = encode_corpus(corpus, built, folder, SPLITS, workers or 1, beam)
            for split, writer in writers.items():
                check_split(corpus.name, split, writer.documents)
            np.save(folder / UNIGRAM, writers["train"].counts)
            meta = {
                "fingerprint": built.fingerprint,
                "origin": corpus.origin,
                "documents": {split: writer.documents for split, writer in writers.items()},
                "characters": {split: writer.characters for split, writer in writers.items()},
                "tokens": {split: writer.tokens for split, writer in writers.items()},
                "padding": None if length is None else padding_report(folder, SPLITS, length),
                "skipped": dataclasses.asdict(corpus.skipped),
                "sha256_of_splits": {split: found.hexdigest() for split, found in digest.splits.items()},
                **text.notes,
                "settings": {**settings, "corpus_sha256": digest.hex()},
                "sources": sources_of(settings),
                "corpus_files": stamp,
            }
            write_meta(folder, meta, built)
    return open_prepared(directory)


def _options_read(spec, tokenizer, corpus):
    """{name: value} of the options that the tokenizer reads."""
    names = {"data.tokenizer": tokenizer, "data.corpus": corpus}
    known = options_of(type(spec)).items()
    return {name: getattr(spec, name) for name, option in known if option.is_read(lambda key: [names[key]])}


def _reopen(directory, settings, corpus, given, progress):
    """Opens an existing directory if it was prepared with these settings. The corpus is read only if its files
    changed."""
    prepared = open_prepared(directory)
    old, settings = prepared.meta["settings"], dict(settings)
    stamp = stamp_of(corpus)
    if not prepared.differing(settings):
        same_files = stamp is not None and stamp == prepared.meta.get("corpus_files")
        settings["corpus_sha256"] = old["corpus_sha256"] if same_files else digest_of(corpus)
        if given is not None and given.fingerprint != prepared.tokenizer.fingerprint:
            settings["tokenizer"] += f" with pieces {given.fingerprint[:12]}"
    differing = [f"{key} ({then!r}, now {now!r})" for key, (then, now) in prepared.differing(settings).items()]
    if differing:
        raise UserError(
            f"{directory} was prepared with other settings, {', '.join(differing)}: "
            "remove the directory or choose another with --config.data.directory"
        )
    return prepared if "files" in prepared.meta else _sealed(directory, progress)


def _sealed(directory, progress):
    """Opens a directory of an earlier version, which stored no digests, and stores them if the directory is
    writable."""
    prepared = open_prepared(directory, whole=True)
    try:
        write_meta(directory, prepared.meta, prepared.tokenizer)
    except UserError as error:
        progress(f"{directory} has no digests of its files and cannot be given them: {error}")
        return prepared
    progress(f"{directory} was prepared without digests of its files: they are taken now")
    return open_prepared(directory)


def main(data: Any, check: bool = False, workers: int | None = None, beam_options: str | None = None) -> None:
    """Prepares config.data, or checks what is prepared. workers, beam_options: of `prepare`, the latter in one text; a
    worker for each core if both are None."""
    if check and beam_options is not None:
        raise UserError("--check encodes nothing: leave --beam_options out")
    if check:
        print(check_prepared(data.directory))
        return
    remote.check_here(data.directory, "data.directory")
    beam = None if beam_options is None else words_of(beam_options)
    check_options(beam, workers)
    corpus = corpus_of(data)
    if line := _tell_unread(data):
        print(line, flush=True)
    options = {"vocab_size": data.vocab_size} | {name: data[name] for name in TOKENIZERS.options(data.tokenizer)}
    prepared = prepare(
        corpus,
        data.directory,
        **options,
        progress=lambda line: print(line, flush=True),
        tokenizer=data.tokenizer,
        length=data.length,
        workers=workers or (all_cores() if beam is None else None),
        beam_options=beam,
    )
    print(describe(prepared, padded=data.protocol == "padded"))


def _tell_unread(data) -> str:
    """A line that names options of corpora and tokenizers that are set but that nothing reads here; '' if there are
    none."""
    chosen = ((CORPORA, data.corpus or data.train), (TOKENIZERS, data.tokenizer))
    read = {name: option for registry, plugin in chosen for name, option in registry.options(plugin).items()}
    unread = [
        f"data.{name} = {value!r}"
        for name, value in data.items()
        if (option := keys.KEYS.get(f"data.{name}"))
        and f"data.{name}" not in keys.CORE_KEYS
        and value != option.default
        if not (name in read and read[name].is_read(lambda key: [data[key.removeprefix("data.")]]))
    ]
    names = f"data.tokenizer = {data.tokenizer!r}" + f" and data.corpus = {data.corpus!r}" * bool(data.corpus)
    return f"note: nothing reads {', '.join(unread)} with {names}" if unread else ""


def check_prepared(directory: PathLike) -> str:
    """A sentence that a prepared directory has not changed since it was written. UserError: it has."""
    meta = open_prepared(directory, whole=True).meta
    if "files" not in meta:
        return f"{directory} fits together, but has no digests of its files: run {COMMAND} to take them"
    size = sum(seal["bytes"] for seal in meta["files"].values())
    return f"{directory} is as it was written: {len(meta['files'])} files, {size:,} bytes"


def prepare_dataset(dataset: str | None, source: str | None) -> None:
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
        WORKERS = flags.DEFINE_integer("workers", None, "Processes that encode text. Default: one for each core.")
        about = "Encode text by Apache Beam (extra beam) instead, on many machines, with these of its options."
        BEAM = flags.DEFINE_string("beam_options", None, about)
        cli.run(lambda: main(CONFIG.value.data, CHECK.value, WORKERS.value, BEAM.value), needs=["data"])
