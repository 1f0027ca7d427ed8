"""What a kernel can read about the tokens that it corrupts."""

import dataclasses

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

    Raises:
        UserError: their sizes disagree, V is no whole number above 1, or mask_id is no token.
    """

    size: int
    mask_id: int
    table: NeighborTable | None = None
    unigram: np.ndarray | None = None
    valid: np.ndarray | None = None
    embeddings: np.ndarray | None = None

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

    def require(self, name):
        """The named attribute. UserError when this run has none."""
        value = getattr(self, name)
        if value is None:
            what = {"table": "is no neighbor table", "unigram": "are no token counts"}
            raise UserError(
                f"there {what.get(name, f'are no {name}')} here, which this kernel needs: run {BUILD}, or give "
                f"Vocabulary({name}=…) in Python"
            )
        return value
