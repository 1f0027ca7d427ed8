"""Events: what each step of the reverse process did to each token."""

from typing import NamedTuple

import numpy as np

from semdlm_jax.entropy import entropy

# Event: what a reader is shown for it. Its code is its index here.
EVENTS = {
    "given": "prompt or infilling",
    "kept": "as it was",
    "near": "now a semantic neighbor",
    "jumped": "now any other token",
    "frozen": "held back, confident already",
    "waiting": "not begun",
}
GIVEN, KEPT, NEAR, JUMPED, FROZEN, WAITING = range(len(EVENTS))


class Trace(NamedTuple):
    """The reverse process of B samples of L tokens, host arrays; one entry for each of N network evaluations."""

    t: np.ndarray  # [N] time before
    s: np.ndarray  # [N] time after; 0 marks a stride's last step, which writes text
    start: np.ndarray  # [N] first position of the stride being generated: those before are finished
    stop: np.ndarray  # [N] its end: positions from here on are not begun
    initial: np.ndarray  # [B, L] int32 tokens before the first evaluation
    tokens: np.ndarray  # [N, B, L] int32 tokens after each evaluation
    confidence: np.ndarray  # [N, B, L] float32 p_theta(the token the network proposed | x_t)
    frozen: np.ndarray  # [N, B, L] bool: held back by the sampler, which is confident already
    is_given: np.ndarray  # [B, L] bool: prompt and infilling tokens, never changed


def events(trace: Trace, neighbors: np.ndarray) -> np.ndarray:
    """What each step did to each token.

    given: a prompt or infilling token. waiting: its stride is not begun. kept: as it was, or its stride is finished.
    frozen: as it was because the sampler held it back. near: changed to a neighbor, or to a token whose neighbor it is.
    jumped: changed to anything else, also from or to the mask.

    Args:
        trace: the steps.
        neighbors: [V, K] int, `NeighborTable.ids` or `Table.ids`: V and above, or below 0, where missing. Tokens from V
            on have no neighbors.

    Returns:
        [N, B, L] uint8 codes, places in EVENTS.
    """
    before, after = _before(trace), np.asarray(trace.tokens)
    in_stride, begun = _positions(trace)
    changed = in_stride & (before != after)
    codes = np.full(after.shape, KEPT, np.uint8)
    codes[in_stride & np.asarray(trace.frozen, bool)] = FROZEN
    codes[changed] = np.where(_linked(before[changed], after[changed], np.asarray(neighbors)), NEAR, JUMPED)
    codes[np.broadcast_to(~begun, codes.shape)] = WAITING
    codes[:, np.asarray(trace.is_given, bool)] = GIVEN
    return codes


def curves(trace: Trace, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the samples change from evaluation to evaluation.

    Args:
        trace: the steps.
        events: [N, B, L], of `events`.

    Returns:
        (entropy, changed, confidence), each [N, B] float64. entropy: nats, of the sequence's own token counts over the
        positions begun, masks and given tokens included. changed: the share of the stride's positions, given ones left
        out, that are near or jumped. confidence: its mean over these. The last two are NaN where there are none.
    """
    in_stride, begun = _positions(trace)
    is_open = in_stride & ~np.asarray(trace.is_given, bool)
    count = is_open.sum(-1)
    some = np.where(count, count, np.nan)
    changed = (is_open & np.isin(events, (NEAR, JUMPED))).sum(-1) / some
    confidence = np.where(is_open, trace.confidence, 0.0).sum(-1, dtype=np.float64) / some
    entropies = np.zeros(count.shape)
    for index, sample in np.ndindex(count.shape):
        _, counts = np.unique(trace.tokens[index, sample][begun[index, 0]], return_counts=True)
        entropies[index, sample] = entropy(counts)
    return entropies, changed, confidence


def _before(trace):
    """[N, B, L] tokens before each evaluation."""
    return np.concatenate([np.asarray(trace.initial)[None], trace.tokens[:-1]])


def _positions(trace):
    """Two [N, 1, L] bools: in the stride being generated, begun."""
    position = np.arange(trace.tokens.shape[-1])
    start, stop = (np.asarray(x)[:, None, None] for x in (trace.start, trace.stop))
    begun = position < stop
    return begun & (position >= start), begun


def _linked(left, right, neighbors):
    """[M] bool for tokens [M]: either is among the other's neighbors."""
    vocab_size = len(neighbors)
    known = (left < vocab_size) & (right < vocab_size)  # or a mask with id V would equal the padding
    left, right = np.where(known, left, 0), np.where(known, right, 0)
    forth = (neighbors[left] == right[:, None]).any(-1)
    back = (neighbors[right] == left[:, None]).any(-1)
    return known & (forth | back)
