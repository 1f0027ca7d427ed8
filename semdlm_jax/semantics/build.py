"""Builds a neighbor table: the neighbors of every token, and nested partitions of the vocabulary.

python -m semdlm_jax.semantics.build --config=configs/quickstart.py [flags]
    The table of a prepared corpus, written beside it; flags and --config.semantics.… keys say how.

python -m semdlm_jax.semantics.build --tokenizer=bert-base-uncased --embeddings=package:NAME --output=table.npz [flags]
    The table of a vocabulary alone: no token is too rare, and embeddings come from elsewhere.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from semdlm_jax import cli, config_flag, remote
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.data.prepared import Prepared
from semdlm_jax.data.tokenizers import Tokenizer, given_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.plugins import options_of
from semdlm_jax.semantics import partition_report
from semdlm_jax.semantics.candidates import candidate_tokens, prior_tokens
from semdlm_jax.semantics.embeddings import ppmi_svd, remove_common
from semdlm_jax.semantics.inspection import describe
from semdlm_jax.semantics.knn import directions, nearest_neighbors
from semdlm_jax.semantics.partitions import build_partitions, fitting_levels
from semdlm_jax.semantics.settings import TableSettings, from_config
from semdlm_jax.semantics.sources import load_vectors
from semdlm_jax.semantics.table import TABLE, Notes, Table, read_table, save_table, table_path
from semdlm_jax.storage import PathLike

PARTED = ("blocks", "partition")  # settings of partitions, which neighbors do not depend on
Progress = Callable[[str], None]  # is given one line at a time


def build(prepared: Prepared, progress: Progress = lambda line: None, **settings: Any) -> Table:
    """Builds the neighbor table of a prepared corpus and writes it beside it.

        import semdlm_jax.data.prepare
        from semdlm_jax.semantics.build import build

        prepared = semdlm_jax.data.prepare.open_prepared("data/letters")
        table = build(prepared, neighbors=16, dimensions=64)
        table.ids[prepared.tokenizer.pieces.index("▁king")]  # the ids of its 16 nearest tokens, nearest first

    Args:
        prepared: data.prepare.open_prepared(DIRECTORY).
        progress: called with a line before each long part.
        **settings: fields of TableSettings.

    Returns:
        The Table.

    Raises:
        UserError: as for `build_table`.
    """
    return build_table(prepared.tokenizer, TableSettings(**settings), prepared.directory / TABLE, prepared, progress)


def build_table(
    tokenizer: Tokenizer,
    settings: TableSettings,
    path: PathLike,
    prepared: Prepared | None = None,
    progress: Progress = lambda line: None,
) -> Table:
    """Builds the neighbor table of a vocabulary, with its partitions, and writes it to `path`.

    A table there of the same vocabulary, settings and sources is read back instead; another one is replaced. Where only
    settings of the partitions differ, its neighbors stay. The mean and the components removed from given embeddings are
    those of the tokens that have neighbors.

    Args:
        tokenizer: of the vocabulary.
        settings: how.
        path: of the .npz.
        prepared: its train split gives PPMI vectors and counts; None for a vocabulary alone.
        progress: called with a line before each long part.

    Returns:
        The Table.

    Raises:
        UserError: PPMI without a corpus, embeddings that are not there or of another vocabulary, no token that could
            have neighbors, or more blocks than the vocabulary can fill.
    """
    if prepared is None and settings.embeddings == "ppmi":
        raise UserError("--embeddings=ppmi counts a corpus: give the --config of a prepared one, or other embeddings")
    unigram = None if prepared is None else prepared.unigram
    candidates = candidate_tokens(tokenizer, unigram, settings.min_count, settings.characters)
    if not candidates.any():
        raise UserError(f"no token occurs {settings.min_count} times or more: lower semantics.min_count")
    special = np.isin(np.arange(tokenizer.vocab_size), tokenizer.special_ids)
    levels = fitting_levels(settings.levels, int((~special).sum()))
    given = None if settings.embeddings == "ppmi" else load_vectors(settings.embeddings, tokenizer)
    # Corpora may share a vocabulary and differ in counts; checkpoints of one run differ in vectors.
    meta = {
        **dataclasses.asdict(settings),
        "remove_components": settings.components,
        "counts": _digest(unigram),
        "vectors": _digest(given),
    }
    counts = np.zeros(tokenizer.vocab_size, np.int64) if unigram is None else unigram
    found, complete = _existing(path, tokenizer.fingerprint, meta)
    if found is not None and complete:
        return found
    table = found or _find_neighbors(tokenizer, settings, prepared, candidates, given, progress)
    table = table._replace(partitions=_partitions(table, counts, special, levels, settings, progress))
    notes = Notes(tokenizer.pieces, counts, prior_tokens(tokenizer, settings.prior_tokens))
    return save_table(path, table, tokenizer.fingerprint, meta, notes)


def _find_neighbors(tokenizer, settings, prepared, candidates, given, progress):
    """A Table without partitions. given: the vectors of an embedding source; None for those of PPMI."""
    if given is None:
        vectors = _ppmi(prepared, settings, progress)
    else:
        progress(f"{tokenizer.vocab_size} tokens in {given.shape[1]} dimensions from {settings.embeddings}")
        vectors = remove_common(given, candidates, settings.center, settings.components)
    progress(f"finding {counted(settings.neighbors, 'neighbor')} of each of {candidates.sum()} tokens")
    ids, similarities = nearest_neighbors(
        vectors,
        settings.neighbors,
        candidates,
        settings.max_in_degree,
        hubness=settings.hubness,
        groups=tokenizer.starts_word if settings.separate_continuations else None,
    )
    return Table(ids, similarities, directions(vectors) * candidates[:, None])


def _partitions(table, counts, special, levels, settings, progress):
    """[P, V] of the tokens that the table has vectors of, and the others; None for no level."""
    if left_out := settings.levels[: len(settings.levels) - len(levels)]:
        told = counted(int((~special).sum()), "token")
        progress(f"{told} of text are too few for partitions of {', '.join(map(str, left_out))} blocks: left out")
    if not levels:
        return None
    progress(f"partitioning the vocabulary into {', '.join(map(str, levels))} blocks ({settings.partition})")
    return build_partitions(table.embeddings, counts, special, levels, settings.partition)


def _ppmi(prepared, settings, progress):
    tokenizer, tokens = prepared.tokenizer, prepared.splits["train"]
    progress(
        f"embedding {tokenizer.vocab_size} tokens in {settings.dimensions} dimensions "
        f"from {len(tokens):,} tokens of text"
    )
    return ppmi_svd(
        tokens,
        tokenizer.vocab_size,
        window=settings.window,
        dimensions=settings.dimensions,
        excluded_ids=(*tokenizer.special_ids, *(() if tokenizer.newline_id is None else (tokenizer.newline_id,))),
        boundary_ids=(tokenizer.bos_id, tokenizer.eos_id),
        center=settings.center,
        remove_components=settings.components,
    )


def _digest(array):
    """A short digest of an array's contents; None of None."""
    return None if array is None else hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _existing(path, fingerprint, meta):
    """(the table at `path` if its neighbors were found from the same, else None; whether its partitions were, too)."""
    try:
        table, found_fingerprint, found_meta = read_table(path)
    except UserError:
        return None, False
    neighbors, found_neighbors = ({k: v for k, v in of.items() if k not in PARTED} for of in (meta, found_meta))
    if (found_fingerprint, found_neighbors) != (fingerprint, neighbors):
        return None, False
    return table, found_meta == meta


def main(config: Any = None, tokenizer: str | None = None, output: PathLike | None = None, **changes: Any) -> None:
    """Builds from config.data.directory with config.semantics, or for a tokenizer alone, and prints a summary.

    Args:
        config: ConfigDict.
        tokenizer: as data.tokenizer names one.
        output: path of the table; None for where a run of the config reads it.
        **changes: fields of TableSettings; None where not given.

    Raises:
        UserError: both or neither of config and tokenizer, or a tokenizer without output.
    """
    if (config is None) == (tokenizer is None):
        raise UserError("give either --config, of a prepared corpus, or --tokenizer, for a vocabulary alone")
    cli.check_output(output, builds_tables=True)
    changes = {key: value for key, value in changes.items() if value is not None}
    settings = dataclasses.replace(TableSettings() if config is None else from_config(config.semantics), **changes)
    if config is None:
        if output is None:
            raise UserError("--tokenizer has no corpus to write the table beside: give --output=table.npz")
        prepared, vocabulary = None, given_tokenizer(tokenizer or "", lowercase=True)
        if vocabulary is None:
            raise UserError(
                f"--tokenizer={tokenizer} is learned from a corpus: give --config of it, or one that is there already, "
                "as sentencepiece:PATH"
            )
    else:
        if output is None:
            remote.check_here(config.data.directory, "data.directory")
        prepared = open_prepared(config.data.directory)
        vocabulary = prepared.tokenizer
        if output is None:
            output = table_path(config)
            cli.check_output(output, "config.semantics.table", builds_tables=True)
    table = build_table(vocabulary, settings, output, prepared, lambda line: print(line, flush=True))
    print(describe(vocabulary.pieces, table.ids, None if prepared is None else prepared.unigram))
    if table.partitions is not None:
        print(partition_report.summary(table))
    print(f"written to {output}")


def _define_flags():
    """Also a flag for each setting; returns the names of these."""
    # Where --config is defined it must be given.
    if "--config" in str(sys.argv) or "--tokenizer" not in str(sys.argv):
        config_flag.define_config_flag()
    about = "instead of --config, a vocabulary that is not learned: as data.tokenizer names one"
    flags.DEFINE_string("tokenizer", None, about)
    about = "where the table goes; default: where training reads it, semantics.table or else beside the corpus"
    flags.DEFINE_string("output", None, about)
    for name, option in options_of(TableSettings).items():
        cli.define_option_flag(name, option, "[as in config.semantics] ", f"Default: {option.default}")
    return options_of(TableSettings)


if __name__ == "__main__":
    NAMES = _define_flags()

    def start():
        given = flags.FLAGS
        config = given.config if "config" in given else None
        main(config, given.tokenizer, given.output, **{name: given[name].value for name in NAMES})

    cli.run(start, needs=["data.directory", "semantics"])
