"""Documents to stored streams, in bounded memory."""

import collections
import contextlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from semdlm_jax.data.documents import Digest, Part
from semdlm_jax.data.packing import Packer, batches
from semdlm_jax.data.protocols import lost_to_padding
from semdlm_jax.data.store import ArrayWriter
from semdlm_jax.data.workers import encoded

COUNTED = 2**22  # tokens counted at a time


class SplitWriter:
    """A split's stream and the starts of its documents, as they come. counts: [V] int64, of its tokens."""

    def __init__(self, folder, split, tokenizer):
        self._packer = Packer(tokenizer)
        self._tokens = ArrayWriter(folder / tokens_file(split), self._packer.dtype)
        self._starts = ArrayWriter(folder / starts_file(split), np.int64)
        self.documents = self.characters = 0
        self.counts = np.zeros(tokenizer.vocab_size, np.int64)

    @property
    def tokens(self):
        return self._tokens.count

    def append(self, parts: Sequence[Part], encoded: Sequence[np.ndarray]) -> None:
        """encoded: the ids of each part, [N_i]."""
        stream, starts = self._packer.append(parts, encoded)
        self._starts.append(self.tokens + starts)
        self._tokens.append(stream)
        self.counts += count_tokens(stream, len(self.counts))
        self.documents += sum(part.ends for part in parts)
        self.characters += sum(len(part.text) for part in parts)

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


def encode_corpus(corpus, tokenizer, folder, splits, workers=1, beam=None):
    """Encodes every document of a corpus into files of `folder`; ({split: closed SplitWriter}, the corpus's Digest).

    Shows the documents a second on a terminal. workers: of `workers.encoded`. beam: what takes its place, as
    `beam.beam_encoded` with its options does; None for nothing.
    """
    with contextlib.ExitStack() as stack:
        writers = {}
        for split in splits:
            writers[split] = SplitWriter(folder, split, tokenizer)
            stack.callback(_quietly(writers[split].abandon))
        digest = Digest()
        with tqdm(desc="encoding", unit=" documents", unit_scale=True, disable=None) as bar:
            if beam is None:
                found = encoded(batches(corpus.parts()), tokenizer, workers)
            else:
                found = beam(corpus, tokenizer, folder)
            for batch, ids_of_batch in stack.enter_context(contextlib.closing(found)):
                of_split = collections.defaultdict(lambda: ([], []))
                for part, ids in zip(batch, ids_of_batch, strict=True):
                    digest.add(part)
                    of_split[part.split][0].append(part)
                    of_split[part.split][1].append(ids)
                for split, pair in of_split.items():
                    writers[split].append(*pair)
                bar.update(sum(part.ends for part in batch))
        for writer in writers.values():
            writer.close()
    return writers, digest


def count_tokens(tokens, vocab_size):
    """[V] int64: how often each id occurs in tokens [N]."""
    counts = np.zeros(vocab_size, np.int64)
    for first in range(0, len(tokens), COUNTED):
        counts += np.bincount(tokens[first : first + COUNTED], minlength=vocab_size)
    return counts


def ids_below(tokens: np.ndarray, vocab_size: int) -> bool:
    """Whether every id of tokens [N] is one of a vocabulary's."""
    stretches = (tokens[first : first + COUNTED] for first in range(0, len(tokens), COUNTED))
    return all(stretch.min() >= 0 and stretch.max() < vocab_size for stretch in stretches)


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
