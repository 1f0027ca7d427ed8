"""Documents to stored streams, in bounded memory."""

import collections
import contextlib

import numpy as np
from tqdm import tqdm

from semdlm_jax.data.corpora import Digest
from semdlm_jax.data.packing import token_dtype
from semdlm_jax.data.protocols import lost_to_padding
from semdlm_jax.data.store import ArrayWriter

BATCH_CHARACTERS = 2**20  # encoded at a time, and one document more
BATCH_DOCUMENTS = 4096
COUNTED = 2**22  # tokens counted at a time


class SplitWriter:
    """A split's stream and the starts of its documents, as they come. counts: [V] int64, of its tokens."""

    def __init__(self, folder, split, tokenizer):
        self._frame = tokenizer.bos_id, tokenizer.eos_id
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._tokens = ArrayWriter(folder / tokens_file(split), self._dtype)
        self._starts = ArrayWriter(folder / starts_file(split), np.int64)
        self.documents = self.characters = 0
        self.counts = np.zeros(tokenizer.vocab_size, np.int64)

    @property
    def tokens(self):
        return self._tokens.count

    def append(self, texts, encoded):
        """texts: documents. encoded: their ids, [N_i] each."""
        bos, eos = self._frame
        lengths = np.array([len(ids) + 2 for ids in encoded])
        ends = np.cumsum(lengths)
        stream = np.empty(ends[-1], self._dtype)
        for start, end, ids in zip(ends - lengths, ends, encoded, strict=True):
            stream[start], stream[start + 1 : end - 1], stream[end - 1] = bos, ids, eos
        self._starts.append(self.tokens + ends - lengths)
        self._tokens.append(stream)
        self.documents += len(texts)
        self.characters += sum(map(len, texts))
        self.counts += count_tokens(stream, len(self.counts))

    def close(self):
        """Completes the files."""
        self._starts.append([self.tokens])
        self._tokens.close()
        self._starts.close()

    def abandon(self):
        """Closes the files as they are."""
        self._tokens.abandon()
        self._starts.abandon()


def tokens_file(split):
    return f"{split}.npy"


def starts_file(split):
    return f"{split}.starts.npy"


def encode_corpus(corpus, tokenizer, folder, splits):
    """Encodes every document of a corpus into files of `folder`; ({split: closed SplitWriter}, the corpus's digest).

    Shows the documents a second on a terminal.
    """
    with contextlib.ExitStack() as stack:
        writers = {}
        for split in splits:
            writers[split] = SplitWriter(folder, split, tokenizer)
            stack.callback(_quietly(writers[split].abandon))
        digest = Digest()
        with tqdm(desc="encoding", unit=" documents", unit_scale=True, disable=None) as bar:
            for batch in batches(corpus.documents()):
                encoded = tokenizer.encode_batch([text for _, text in batch])
                of_split = collections.defaultdict(lambda: ([], []))
                for (split, text), ids in zip(batch, encoded, strict=True):
                    digest.add(split, text)
                    of_split[split][0].append(text)
                    of_split[split][1].append(ids)
                for split, pair in of_split.items():
                    writers[split].append(*pair)
                bar.update(len(batch))
        for writer in writers.values():
            writer.close()
    return writers, digest.hex()


def batches(documents):
    """Lists of (split, text): at most BATCH_DOCUMENTS, and closed once they hold BATCH_CHARACTERS."""
    batch, size = [], 0
    for pair in documents:
        batch.append(pair)
        size += len(pair[1])
        if size >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_tokens(tokens, vocab_size):
    """[V] int64: how often each id occurs in tokens [N]."""
    counts = np.zeros(vocab_size, np.int64)
    for first in range(0, len(tokens), COUNTED):
        counts += np.bincount(tokens[first : first + COUNTED], minlength=vocab_size)
    return counts


def padding_report(folder, splits, length):
    """What `padded` rows of L = length leave out, for meta.json: by split, documents cut and tokens lost."""
    starts = {split: np.load(folder / starts_file(split), mmap_mode="r") for split in splits}
    return {
        "length": length,
        "documents_cut": {split: int((np.diff(s) > length).sum()) for split, s in starts.items()},
        "tokens_lost": {split: lost_to_padding(s, length) for split, s in starts.items()},
    }


def _quietly(close):
    """The failure that led here is the one to tell of."""

    def closing():
        with contextlib.suppress(OSError):
            close()

    return closing
