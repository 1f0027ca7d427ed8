"""What a score is divided by: the tokens of rows that are scored, and the bytes of their text."""

import hashlib
import math

import numpy as np

from semdlm_jax.data.protocols import Rows, documents_of
from semdlm_jax.data.tokenizer import Tokenizer

TOKENS_AT_ONCE = 2**22  # that are hashed
HELD = 2**22  # tokens of a document that are decoded at once; a cut within a longer one may lose the space there


def scored_counts(rows: Rows, vocab_size: int) -> np.ndarray:
    """[V] int64: how often each token occurs among those of rows that are scored."""
    counts = np.zeros(vocab_size, np.int64)
    for tokens, mask in map(rows.ordered_row, range(rows.ordered_count)):
        counts += np.bincount(tokens[mask], minlength=vocab_size)
    return counts


def scored_bytes(rows: Rows, tokenizer: Tokenizer) -> int:
    """Bytes of UTF-8 of the text that the scored tokens decode to, document by document, across the rows that cut one.

    Begin, end and unknown tokens are no text and count no bytes.
    """
    total, held, size = 0, [], 0
    for index in range(rows.ordered_count):
        tokens, mask = rows.ordered_row(index)
        tokens = tokens[mask][1:-1] if rows.has_bos_eos else tokens[mask]
        held.append(tokens)
        size += len(tokens)
        if rows.padded or size > HELD or index + 1 == rows.ordered_count:
            *whole, last = documents_of(np.concatenate(held), tokenizer)
            if not rows.padded and len(last) <= HELD and index + 1 < rows.ordered_count:
                held, size = [last], len(last)  # it goes on in the next row
            else:
                whole, held, size = [*whole, last], [], 0
            total += sum(len(tokenizer.decode(document).encode()) for document in whole)
    return total


def bits_per_byte(nats: float | None, tokens: int, size: int) -> float | None:
    """Bits a byte of a text of `size` bytes in `tokens` tokens of so many nats each; None of no text."""
    return None if nats is None or not size else nats * tokens / (math.log(2) * size)


def digest_of_tokens(tokens: np.ndarray) -> str:
    """SHA-256 of token ids [N] of any integer type, in hexadecimal; part by part, as they may not fit in memory."""
    digest = hashlib.sha256()
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        digest.update(np.asarray(tokens[start : start + TOKENS_AT_ONCE], np.int64).tobytes())
    return digest.hexdigest()
