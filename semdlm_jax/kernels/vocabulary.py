"""What a kernel can read about the tokens that it corrupts."""

import dataclasses
import itertools

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.neighbors import NeighborTable
from semdlm_jax.options import number

BUILD = "python -m semdlm_jax.semantics.build --config=…"
LARGEST = "[2, 2147483647]"  # V: ids are int32


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a run; what the run does not have is None.

    Args:
        size: V.
        mask_id: the token that only noise produces.
        table: the neighbors of every token.
        unigram: [V], how often each token occurs in training text.
        valid: [V] bool, the tokens that a unigram prior may produce (Eq. 119).
        embeddings: [V, E], rows of unit length, or zero for a token without a meaning.
        partitions: [P, V] int32, the block of every token on P levels from fine to coarse. The blocks of a level are 0
            to n - 1, and each lies inside one block of the next level. Tables have the special tokens in the last one.

    Raises:
        UserError: their sizes disagree, V is no whole number above 1, mask_id is no token, or partitions do not nest.
    """

    size: int
    mask_id: int
    table: NeighborTable | None = None
    unigram: np.ndarray | None = None
    valid: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    partitions: np.ndarray | None = None

    def __post_init__(self):
        number(None, LARGEST, "", kind=int).check("size", self.size)
        number(None, f"[0, {self.size})", "", kind=int).check("mask_id", self.mask_id)
        known = {"neighbor table": None if self.table is None else self.table.vocab_size}
        for name in ("unigram", "valid", "embeddings"):
            values = getattr(self, name)
            known[name] = None if values is None else len(values)
        for name, size in known.items():
            if size not in (None, self.size):
                raise UserError(f"the {name} is of {size} tokens but the vocabulary has {self.size}")
        if self.partitions is not None:
            _check_partitions(np.asarray(self.partitions), self.size)

    def require(self, name):
        """The named attribute. UserError when this run has none."""
        value = getattr(self, name)
        if value is None:
            what = {"table": "is no neighbor table", "unigram": "are no token counts"}
            first = f"give semantics.blocks that the vocabulary can fill and run {BUILD}"
            mend = {"partitions": first}.get(name, f"run {BUILD}")
            raise UserError(
                f"there {what.get(name, f'are no {name}')} here, which this kernel needs: {mend}, or give "
                f"Vocabulary({name}=…) in Python"
            )
        return value


def _check_partitions(partitions, size):
    """UserError unless these are partitions of `size` tokens that nest."""
    if partitions.ndim != 2 or not len(partitions) or partitions.dtype.kind not in "iu":
        told = f"{partitions.dtype} of shape {list(partitions.shape)}"
        raise UserError(f"the partitions are {told}: give whole numbers [levels, {size}], one row a level at least")
    if partitions.shape[1] != size:
        raise UserError(f"the partitions are of {partitions.shape[1]} tokens but the vocabulary has {size}")
    for level, blocks in enumerate(partitions):
        there = np.unique(blocks)
        if there[0] != 0 or there[-1] != len(there) - 1:
            raise UserError(
                f"level {level} of the partitions has {len(there)} blocks from {there[0]} to {there[-1]}: "
                f"number them 0 to {len(there) - 1}"
            )
    for level, (fine, coarse) in enumerate(itertools.pairwise(partitions)):
        if len(np.unique(np.stack([fine, coarse]), axis=1).T) != fine.max() + 1:
            raise UserError(
                f"the partitions do not nest: a block of level {level} lies in more than one block of level "
                f"{level + 1}: give levels from fine to coarse, each cut out of the next"
            )
