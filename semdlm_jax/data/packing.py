"""One flat stream of tokens, `[begin] doc [end] [begin] doc [end] …`, in the tokenizer's own begin and end pieces.

A document comes in parts, which end after a line break, or between two words if a line is too long to be encoded at
once. The tokens of a document are those of its parts. Some tokenizers have a token for a line break but do not encode
breaks at the ends of a text; for them that token is added between two parts that a break separates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from semdlm_jax.data.documents import Part
from semdlm_jax.data.files import parts_of

T = TypeVar("T")
BATCH_CHARACTERS = 2**20  # encoded at a time, and one part more
BATCH_PARTS = 4096


def token_dtype(vocab_size):
    """The smallest of uint16 and int32 that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.int32)


class Packer:
    """Joins encoded parts of documents, with begin and end tokens, as they come. dtype: of the stream."""

    def __init__(self, tokenizer):
        self.dtype = token_dtype(tokenizer.vocab_size)
        self._bos, self._eos, self._newline = (
            np.array([i for i in (index,) if i is not None], self.dtype)
            for index in (tokenizer.bos_id, tokenizer.eos_id, None if tokenizer.keeps_space else tokenizer.newline_id)
        )
        self._within = 0  # tokens of the document that has begun, its begin token among them
        self._broken = False  # whether a line break follows the last of them

    def append(self, parts: Sequence[Part], encoded: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(the stream's next tokens [N], where in them documents start [D] int64). encoded: the ids of each part."""
        stream, starts, end = [], [], 0
        for part, ids in zip(parts, encoded, strict=True):
            framed = [ids]
            if not self._within:
                starts.append(end)
                framed = [self._bos, ids]
            elif self._within > 1 and len(ids) and self._broken:  # where the last part's is lost
                framed = [self._newline, ids]
            if part.ends:
                framed.append(self._eos)
            size = sum(map(len, framed))
            self._within = 0 if part.ends else self._within + size
            self._broken = part.text.endswith("\n") or (self._broken and not len(ids))
            end += size
            stream += framed
        return np.concatenate(stream).astype(self.dtype), np.array(starts, np.int64)


def pack(documents: Iterable[str], tokenizer, progress: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """Encodes documents and joins them: [N] uint16 or int32. progress: called with the number of characters done."""
    packer, done = Packer(tokenizer), 0
    streams = [np.zeros(0, packer.dtype)]
    for batch in batches(_parts(documents)):
        texts = [part.text for part in batch]
        streams.append(packer.append(batch, tokenizer.encode_batch(texts))[0])
        done += sum(map(len, texts))
        progress(done)
    return np.concatenate(streams)


def batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Batches of parts, in order: at most BATCH_PARTS each; a batch ends once it holds BATCH_CHARACTERS."""
    return grouped(parts, lambda part: len(part.text), BATCH_CHARACTERS, BATCH_PARTS)


def grouped(items: Iterable[T], size_of: Callable[[T], int], size: int, most: int) -> Iterator[list[T]]:
    """Items in groups, in order: at most `most` each; a group ends once its sizes sum up to `size`."""
    group, total = [], 0
    for item in items:
        group.append(item)
        total += size_of(item)
        if total >= size or len(group) >= most:
            yield group
            group, total = [], 0
    if group:
        yield group


def _parts(documents):
    for text in documents:
        *before, last = list(parts_of(text)) or [""]
        yield from (Part("", part, False) for part in before)
        yield Part("", last, True)


def unpack(tokens, tokenizer):
    """The documents' texts back from a whole stream, normalized: the inverse of `pack`."""
    tokens = np.asarray(tokens)
    starts, ends = np.flatnonzero(tokens == tokenizer.bos_id), np.flatnonzero(tokens == tokenizer.eos_id)
    return [tokenizer.decode(tokens[start + 1 : end]) for start, end in zip(starts, ends, strict=True)]
