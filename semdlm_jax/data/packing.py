"""One flat stream of tokens, `[begin] doc [end] [begin] doc [end] …`, in the tokenizer's own begin and end pieces."""

import numpy as np


def token_dtype(vocab_size):
    """The smallest of uint16 and int32 that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.int32)


def pack(documents, tokenizer):
    """Encodes documents and joins them. documents: iterable of str. Returns [N] uint16 or int32."""
    dtype = token_dtype(tokenizer.vocab_size)
    bos, eos = np.array([tokenizer.bos_id], dtype), np.array([tokenizer.eos_id], dtype)
    parts = [part for ids in tokenizer.encode_batch(documents) for part in (bos, ids.astype(dtype), eos)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def unpack(tokens, tokenizer):
    """The documents' texts back from a whole stream, normalised: the inverse of `pack`."""
    tokens = np.asarray(tokens)
    starts, ends = np.flatnonzero(tokens == tokenizer.bos_id), np.flatnonzero(tokens == tokenizer.eos_id)
    return [tokenizer.decode(tokens[start + 1 : end]) for start, end in zip(starts, ends, strict=True)]
