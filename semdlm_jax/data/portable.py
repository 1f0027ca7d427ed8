"""What goes with a trained model of its prepared data: the vocabulary, counts of its tokens, the lengths of rows."""

import dataclasses
import pathlib

import numpy as np

from semdlm_jax.data.prepared import UNIGRAM, Prepared
from semdlm_jax.data.protocols import Rows
from semdlm_jax.data.tokenizers import load_tokenizer
from semdlm_jax.errors import UserError


class _Splits(dict):
    """The train split without its text, for the shape of its rows; no other."""

    def __missing__(self, split):
        raise UserError(
            f"a portable model comes without the text of its {split} split: give a text of your own, with --text=FILE, "
            "or --workdir of the run itself"
        )


@dataclasses.dataclass(frozen=True)
class Portable(Prepared):
    """Prepared data without their text. lengths: [N] int64, of the train split's rows, padding left out, sorted."""

    lengths: np.ndarray

    def starts(self, split):
        """[N + 1] int64: where rows of such lengths would start."""
        self.splits[split]
        return np.concatenate([[0], np.cumsum(self.lengths)])


def write_portable(prepared: Prepared, rows: Rows, folder: pathlib.Path) -> dict:
    """Writes what `open_portable` reads into a folder; returns what it has to be given: a dict for JSON.

    rows: of the train split. OSError: it cannot be written.
    """
    prepared.tokenizer.save(folder / prepared.tokenizer.FILE)
    np.save(folder / UNIGRAM, prepared.unigram)
    lengths, counts = np.unique(rows.sizes, return_counts=True)
    return {
        "text": prepared.meta["settings"]["corpus_sha256"],
        "fingerprint": prepared.tokenizer.fingerprint,
        "rows": {str(length): int(count) for length, count in zip(lengths, counts, strict=True)},
    }


def open_portable(folder: pathlib.Path, described: dict) -> Portable:
    """The data of a portable model. described: what `write_portable` returned. UserError: a file is missing or damaged.
    OSError, ValueError, KeyError, TypeError: so are they, or `described` is something else."""
    tokenizer, unigram = load_tokenizer(folder), np.load(folder / UNIGRAM)
    if tokenizer.fingerprint != described["fingerprint"] or unigram.shape != (tokenizer.vocab_size,):
        raise ValueError("the vocabulary is another")
    lengths = np.repeat([int(length) for length in described["rows"]], list(described["rows"].values()))
    meta = {"settings": {"corpus_sha256": described["text"]}}
    splits = _Splits(train=np.zeros(0, np.int32))
    return Portable(folder, tokenizer, splits, unigram, meta, np.sort(lengths))
