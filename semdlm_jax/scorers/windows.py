"""Texts as rows of a network: windows of tokens, in batches of like length, each length compiled once.

Shape suffixes: B rows, L positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from semdlm_jax.experiment.build import whole_rows
from semdlm_jax.runtime.mesh import make_mesh, place_batch
from semdlm_jax.runtime.progress import Progress

SHORTEST = 16  # positions of the shortest rows: shorter windows are padded to it
ROWS = {"tokens": np.int32, "counted": bool, "read": bool}


class Window(NamedTuple):
    """A part of a text as the network reads it. text: its number. tokens: [n] with the prefix. counted: [n] bool, the
    tokens that are scored. read: [n] bool, those whose features count."""

    text: int
    tokens: np.ndarray
    counted: np.ndarray
    read: np.ndarray


NOTHING = Window(-1, *(np.zeros(0, kind) for kind in ROWS.values()))


def cut(texts: Sequence[np.ndarray], prefix: tuple[int, ...], context: int, end_id: int | None) -> list[Window]:
    """The windows of texts that are given as ids. Each is scored by itself: its first token is not predicted, and of
    end tokens only the first counts, as in the code of MDLM.

    Args:
        texts: their ids.
        prefix: ids that stand before each window and are not scored.
        context: tokens of a window, the prefix included.
        end_id: of the end of a text; None where texts hold none.
    """
    windows, room = [], context - len(prefix)
    for index, ids in enumerate(texts):
        for start in range(0, len(ids), room):
            tokens = np.concatenate([np.array(prefix, np.int32), ids[start : start + room]]).astype(np.int32)
            read = np.arange(len(tokens)) >= len(prefix)
            ends = tokens == end_id if end_id is not None else np.zeros(len(tokens), bool)
            counted = read & (~ends | (np.cumsum(ends) == 1))
            counted[0] = False
            windows.append(Window(index, tokens, counted, read))
    return windows


def map_windows(
    program: Callable[[Mapping[str, jax.Array]], Sequence[jax.Array]],
    windows: Sequence[Window],
    context: int,
    batch_tokens: int,
    label: str,
) -> Iterator[tuple[Any, ...]]:
    """(window, *its results in float64) of each window, the longest first, with a progress bar.

    Args:
        program: {tokens, counted, read: [B, L]} -> arrays [B, ...]. A row is not to depend on other rows, nor on what
            stands behind its last token.
        windows: of all texts.
        context: tokens of the longest window that there could be.
        batch_tokens: of a batch.
        label: of the bar.
    """
    total, done, mesh = sum(len(window.tokens) for window in windows), 0, make_mesh(-1, 1, 1)
    with Progress(total, label=label) as progress:
        for length, batch in _batches(windows, context, batch_tokens, mesh):
            rows = {name: np.zeros((len(batch), length), kind) for name, kind in ROWS.items()}
            for row, window in enumerate(batch):
                for name in ROWS:
                    rows[name][row, : len(window.tokens)] = getattr(window, name)
            # Else the products of some devices have fewer digits than float32.
            with jax.default_matmul_precision("float32"):
                found = program(place_batch(rows, mesh))
            for window, *results in zip(batch, *(np.asarray(array, np.float64) for array in found)):
                if window is not NOTHING:
                    done += len(window.tokens)
                    yield window, *results
            progress.update(done)


def _batches(windows, context, batch_tokens, mesh):
    """(positions, windows of like length) of each batch, filled up with NOTHING. Numbers of rows are powers of two, so
    that texts of another number are seldom compiled anew."""
    lengths = [min(_power_of_two(max(SHORTEST, len(window.tokens))), context) for window in windows]
    for length in sorted(set(lengths), reverse=True):
        alike = [window for window, own in zip(windows, lengths) if own == length]
        rows = whole_rows(max(1, min(batch_tokens // length, _power_of_two(len(alike)))), mesh)
        for start in range(0, len(alike), rows):
            batch = alike[start : start + rows]
            yield length, batch + [NOTHING] * (rows - len(batch))


def _power_of_two(least):
    """The smallest that is at least `least`."""
    return 1 << (least - 1).bit_length()
