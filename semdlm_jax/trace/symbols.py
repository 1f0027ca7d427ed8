"""What a page writes for states of noise that are no tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def symbol_names(kernel: Any, pieces: Sequence[str], counts: np.ndarray, shown: int = 2) -> list[str]:
    """The most frequent tokens of the block of every symbol, as ' ⟨king·queen⟩'.

    Args:
        kernel: with `num_states`, `vocab_size` and `members`.
        pieces: V strings.
        counts: [V], how often each token occurs.
        shown: tokens of each.
    """
    blocks = [kernel.members(state) for state in range(kernel.vocab_size, kernel.num_states)]
    often = [block[np.argsort(-counts[block], kind="stable")][:shown] for block in blocks]
    return [f" ⟨{'·'.join(pieces[int(i)].strip('▁ ') for i in tokens)}⟩" for tokens in often]
