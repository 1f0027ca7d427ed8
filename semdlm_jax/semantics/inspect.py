"""Looks into a neighbor table.

python -m semdlm_jax.semantics.inspect TABLE.npz [words] [--shown=N] [--hubs=N]
    Neighbors of the words with their cosines, in-degrees, empty rows and hubs. '##ing' is the piece that continues a
    word, in either kind of vocabulary; words that begin with -- follow a lone --.
"""

from collections.abc import Sequence

from absl import flags

from semdlm_jax import cli
from semdlm_jax.errors import UserError
from semdlm_jax.semantics import inspection
from semdlm_jax.semantics.table import read_notes, read_table


def main(words: Sequence[str], shown: int, hubs: int) -> None:
    """Prints what a table holds of words.

    Args:
        words: the path of the table, then words.
        shown, hubs: as `inspection.inspect` takes them.

    Raises:
        UserError: no table is named, or a word is unknown.
    """
    if not words:
        raise UserError("inspect needs a table: give the path of an .npz file, then words")
    path, *words = words
    table, fingerprint, meta = read_table(path)
    notes = read_notes(path)
    print(f"{path}: vocabulary {fingerprint[:12]}, {table.ids.shape[1]} neighbors at most, {meta['embeddings']}")
    print(inspection.inspect(table, notes, words, shown, hubs))


if __name__ == "__main__":
    flags.DEFINE_integer("shown", 10, "neighbors of each word")
    flags.DEFINE_integer("hubs", 10, "tokens of largest in-degree")
    cli.run(lambda words: main(words, flags.FLAGS.shown, flags.FLAGS.hubs), takes_words=True)
