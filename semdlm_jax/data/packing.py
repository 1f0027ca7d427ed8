"""One flat stream of tokens, `<s> doc </s> <s> doc </s> …`, and windows cut from it."""

import numpy as np


def token_dtype(vocab_size):
    """The smallest of uint16 and int32 that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.int32)


def pack(documents, tokenizer):
    """Encodes documents and joins them. documents: iterable of str. Returns [N] uint16 or int32."""
    dtype = token_dtype(tokenizer.vocab_size)
    bos, eos = np.array([tokenizer.bos_id], dtype), np.array([tokenizer.eos_id], dtype)
    parts = [part for text in documents for part in (bos, tokenizer.encode(text).astype(dtype), eos)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def unpack(tokens, tokenizer):
    """The documents' texts back from a whole stream, normalised: the inverse of `pack`."""
    tokens = np.asarray(tokens)
    starts, ends = np.flatnonzero(tokens == tokenizer.bos_id), np.flatnonzero(tokens == tokenizer.eos_id)
    return [tokenizer.decode(tokens[start + 1 : end]) for start, end in zip(starts, ends, strict=True)]


def cyclic_window(tokens, start, length):
    """[length] int32: the stream from `start`, taken as a ring, so that no stretch of it lies at an edge."""
    start %= len(tokens)
    window = tokens[start : start + length]
    if len(window) < length:
        window = np.concatenate([window, tokens[: length - len(window)]])
    return np.asarray(window, np.int32)


def ordered_windows(tokens, length, first, count):
    """Windows first .. first+count-1 of the stream cut in order: (tokens [count, length] int32, mask bool).

    Beyond the end of the stream tokens are 0 and the mask is False.
    """
    stretch = np.asarray(tokens[first * length : (first + count) * length], np.int32)
    padded = np.zeros(count * length, np.int32)
    padded[: len(stretch)] = stretch
    mask = np.arange(count * length) < len(stretch)
    return padded.reshape(count, length), mask.reshape(count, length)
