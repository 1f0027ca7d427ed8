"""Prints what a neighbor table contains.

python -m semdlm_jax.semantics.inspect TABLE.npz [words] [--shown=N] [--hubs=N]
    Prints the neighbors of the words with their cosine similarities, then a summary of the table: in-degrees (how many
    neighbor lists contain a token), tokens without neighbors, and hubs (the tokens with the largest in-degrees). Then
    the nested partitions: the block of each word on every level, sizes of blocks, and the most and least coherent ones
    (by the mean cosine of two members). Write '##ing' for the piece 'ing' that continues a word, in every vocabulary.
    Put words that begin with -- after a separate --.
"""

from collections.abc import Sequence

from absl import flags

from semdlm_jax import cli
from semdlm_jax.errors import UserError
from semdlm_jax.options import counted
from semdlm_jax.semantics import inspection, partition_report
from semdlm_jax.semantics.table import read_notes, read_table


def main(words: Sequence[str], shown: int, hubs: int) -> None:
    """Prints the neighbors and blocks of words, and summaries of the table and its partitions.

    Args:
        words: the path of the table, then words.
        shown, hubs: as `inspection.inspect` takes them.

    Raises:
        UserError: no table is given, or a word is unknown.
    """
    if not words:
        raise UserError("no neighbor table is given: give the path of an .npz file, then words")
    path, *words = words
    table, fingerprint, meta = read_table(path)
    notes = read_notes(path)
    most = counted(table.ids.shape[1], "neighbor")
    print(f"{path}: vocabulary {fingerprint[:12]}, at most {most} per token, embeddings {meta['embeddings']}")
    print(inspection.inspect(table, notes, words, shown, hubs))
    print(partition_report.inspect(table, notes, words, shown))


if __name__ == "__main__":
    flags.DEFINE_integer("shown", 10, "how many neighbors of each word, and members of its blocks, are shown")
    flags.DEFINE_integer("hubs", 10, "how many hubs are shown: the tokens with the largest in-degrees")
    cli.run(lambda words: main(words, flags.FLAGS.shown, flags.FLAGS.hubs), takes_words=True)
