"""A neighbor table without meaning, to compare with: the rows of a table, each assigned to another token.

    python -m benchmarks.shuffled_table --table=data/quickstart/neighbors.npz --output=data/random.npz

A random permutation (--seed) of the rows that have neighbors. In-degrees and similarities stay those of the table. No
token gets its own row, or a row that holds the token itself.
"""

import numpy as np
from absl import flags

from semdlm_jax import cli
from semdlm_jax.neighbor_lists import MISSING
from semdlm_jax.semantics.table import read_notes, read_table, save_table


def shuffled(ids, rng):
    """rows [V]: token i gets the list ids[rows[i]]. Tokens with an empty list keep it."""
    tokens, filled = np.arange(len(ids)), (ids != MISSING).any(1)
    full = np.flatnonzero(filled)
    rows = tokens.copy()
    rows[full] = rng.permutation(full)
    while len(refused := np.flatnonzero(filled & ((rows == tokens) | (ids[rows] == tokens[:, None]).any(1)))):
        for one, other in zip(refused, rng.choice(full, len(refused)), strict=True):
            rows[[one, other]] = rows[[other, one]]
    return rows


def main(table, output, seed):
    cli.check_output(output)
    given, fingerprint, meta = read_table(table)
    rows = shuffled(given.ids, np.random.default_rng(seed))
    made = given._replace(ids=given.ids[rows], similarities=given.similarities[rows])
    save_table(output, made, fingerprint, meta | {"shuffled": seed}, read_notes(table))
    print(f"{output}: the rows of {table}, each assigned to another token (seed {seed})")


if __name__ == "__main__":
    flags.DEFINE_string("table", None, "Neighbor table, .npz.", required=True)
    flags.DEFINE_string("output", None, "File for the new table, .npz.", required=True)
    flags.DEFINE_integer("seed", 0, "Of the permutation.")
    cli.run(lambda: main(flags.FLAGS.table, flags.FLAGS.output, flags.FLAGS.seed))
