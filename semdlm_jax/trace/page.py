"""The web page that replays a trace: one file that needs neither network nor server."""

import base64
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semdlm_jax.storage import PathLike, write_text
from semdlm_jax.trace.events import EVENTS, Trace, curves

SPACE = "▁"  # how SentencePiece spells the space before a piece


def write_page(
    path: PathLike,
    trace: Trace,
    events: np.ndarray,
    pieces: Sequence[str],
    *,
    title: str,
    settings: Mapping[str, Any],
    mask_id: int | None = None,
) -> None:
    """Writes the page; it appears whole or not at all. `PATH#sample=2&step=40` opens it at that sample and step.

    Args:
        path: of the .html.
        trace: the steps.
        events: codes [N, B, L] of `events`.
        pieces: V strings, the text of each token, a space before it as ▁ or a space. Ids beyond them show as numbers.
        title: of the page.
        settings: shown as a table of names and values.
        mask_id: drawn as a block.

    Raises:
        UserError: the directory of the path is missing, the path is a directory, or it cannot be written.
    """
    template = importlib.resources.files("semdlm_jax.trace").joinpath("page.html").read_text("utf-8")
    data = _data(trace, np.asarray(events), pieces, mask_id)
    data |= {"title": str(title), "settings": [[str(key), str(value)] for key, value in settings.items()]}
    write_text(path, template.replace("__DATA__", _embed(data)))


def _data(trace, events, pieces, mask_id):
    """What the page draws, as JSON values. Tokens are renumbered, so that only pieces that occur are embedded."""
    tokens = np.concatenate([np.asarray(trace.initial)[None], trace.tokens])
    used = np.unique(tokens)
    local = np.searchsorted(used, tokens)
    shown = [pieces[i].replace(SPACE, " ") if i < len(pieces) else f"<{i}>" for i in used.tolist()]
    level = np.rint(np.clip(np.nan_to_num(trace.confidence), 0, 1) * 65535).astype("<u2")
    return {
        "pieces": shown,
        "mask": used.tolist().index(mask_id) if mask_id in used else -1,
        "times": [_numbers(trace.t), _numbers(trace.s)],
        "strides": [np.asarray(trace.start).tolist(), np.asarray(trace.stop).tolist()],
        "initial": local[0].tolist(),
        # [N][B] lists of position, token, position, token, …: most tokens stay through most steps.
        "changes": [[_changes(*pair) for pair in zip(*rows)] for rows in zip(local[:-1], local[1:])],
        "names": list(EVENTS.items()),
        "events": [["".join(map(str, row)) for row in step] for step in events.tolist()],  # [N][B] a digit a token
        "confidence": base64.b64encode(level.tobytes()).decode(),  # [N, B, L] 16 bits each, little-endian
        "curves": [_numbers(curve.T) for curve in curves(trace, events)],  # entropy, changed, confidence: each [B][N]
    }


def _changes(before, after):
    at = np.flatnonzero(before != after)
    return np.stack([at, after[at]], axis=-1).ravel().tolist()


def _numbers(values):
    """Nested lists of numbers, short in JSON; None for NaN."""
    values = np.asarray(values, np.float64)
    shown = values.round(5).astype(object)
    shown[np.isnan(values)] = None
    return shown.tolist()


def _embed(data):
    """JSON in which the characters that mean something in HTML are escaped as JSON allows."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
