"""The neighbour table of a prepared corpus: `python -m semdlm_jax.semantics.build --config=configs/quickstart.py`."""

import numpy as np

from semdlm_jax import cli
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.errors import UserError
from semdlm_jax.semantics.embeddings import ppmi_svd
from semdlm_jax.semantics.knn import directions, nearest_neighbours
from semdlm_jax.semantics.table import Table, read_table, save_table

TABLE = "neighbours.npz"


def candidate_tokens(tokenizer, unigram, min_count):
    """[V] bool: the tokens that have neighbours and are some: not special, with a letter or digit, not too rare."""
    wordlike = np.array([any(character.isalnum() for character in piece) for piece in tokenizer.pieces])
    wordlike[list(tokenizer.special_ids)] = False
    return wordlike & (np.asarray(unigram) >= min_count)


def word_starts(tokenizer):
    """[V] bool: what a global jump may produce (Eq. 119): no specials, no pieces that go on with a word, no punctuation
    alone."""
    starts = [piece.startswith("▁") and any(character.isalnum() for character in piece) for piece in tokenizer.pieces]
    return np.array(starts) & ~np.isin(np.arange(tokenizer.vocab_size), tokenizer.special_ids)


def build(prepared, neighbours, dimensions, window, max_in_degree, min_count, progress=lambda line: None):
    """Builds the table from the train split and writes it beside it; returns the Table.

    prepared: data.prepare.Prepared. neighbours: K. dimensions, window: of the embedding, in tokens.
    max_in_degree: rows that may hold one token, None for no cap. min_count: train occurrences below which a token
    has no neighbours. A table of the same vocabulary and settings is read back instead; another is replaced.
    """
    path = prepared.directory / TABLE
    settings = {
        "neighbours": neighbours,
        "dimensions": dimensions,
        "window": window,
        "max_in_degree": max_in_degree,
        "min_count": min_count,
    }
    if (found := _existing(path, prepared.tokenizer.fingerprint, settings)) is not None:
        return found
    tokenizer, tokens = prepared.tokenizer, prepared.splits["train"]
    progress(f"embedding {tokenizer.vocab_size} tokens in {dimensions} dimensions from {len(tokens):,} tokens of text")
    embeddings = ppmi_svd(
        tokens,
        tokenizer.vocab_size,
        window=window,
        dimensions=dimensions,
        excluded_ids=(*tokenizer.special_ids, tokenizer.newline_id),
        boundary_ids=(tokenizer.bos_id, tokenizer.eos_id),
    )
    progress(f"finding {neighbours} neighbours of each")
    candidates = candidate_tokens(tokenizer, prepared.unigram, min_count)
    ids, similarities = nearest_neighbours(embeddings, neighbours, candidates, max_in_degree)
    table = Table(ids, similarities, directions(embeddings) * candidates[:, None])
    save_table(path, table, tokenizer.fingerprint, settings)
    return table


def _existing(path, fingerprint, settings):
    """The table there if it is the one wanted, else None."""
    try:
        table, found_fingerprint, found_settings = read_table(path)
    except UserError:
        return None
    return table if (found_fingerprint, found_settings) == (fingerprint, settings) else None


def describe(prepared, ids, words=12, shown=6):
    """In-degree quantiles, empty rows, and the neighbours of frequent content words."""
    pieces = [piece.replace("▁", " ").strip() for piece in prepared.tokenizer.pieces]
    in_degree = np.bincount(ids[ids >= 0], minlength=len(ids))
    filled = ids[:, 0] >= 0
    median, high, top = np.quantile(in_degree[filled], [0.5, 0.99, 1]) if filled.any() else (0, 0, 0)
    # Long pieces that start a word are content words, by and large.
    content = [i for i in np.argsort(-prepared.unigram, kind="stable") if filled[i] and len(pieces[i]) > 5]
    content = [i for i in content if prepared.tokenizer.pieces[i].startswith("▁")][:words]
    lines = [f"  {pieces[i]:>14} -> {' '.join(pieces[j] for j in ids[i, :shown] if j >= 0)}" for i in content]
    return "\n".join(
        [
            f"{len(ids)} rows, {(~filled).sum()} empty, {(ids[filled] >= 0).sum(1).mean() if filled.any() else 0:.1f} "
            f"neighbours in the others; in-degree median {median:.0f}, 99 % {high:.0f}, largest {top:.0f}",
            *lines,
        ]
    )


def main(config):
    """Builds from config.data.directory with config.semantics."""
    semantics = config.semantics
    prepared = open_prepared(config.data.directory)
    table = build(
        prepared,
        neighbours=semantics.neighbours,
        dimensions=semantics.dimensions,
        window=semantics.window,
        max_in_degree=semantics.max_in_degree,
        min_count=semantics.min_count,
        progress=lambda line: print(line, flush=True),
    )
    print(describe(prepared, table.ids))
    print(f"written to {prepared.directory / TABLE}")


if __name__ == "__main__":
    CONFIG = cli.define_config_flag()
    cli.run(lambda: main(CONFIG.value))
