"""A prepared directory: text as streams of tokens, its vocabulary, and digests that show any later change."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from semdlm_jax import remote
from semdlm_jax.data.documents import SPLITS
from semdlm_jax.data.encoding import count_tokens, ids_below, starts_file, tokens_file
from semdlm_jax.data.matching import absolute, same_files
from semdlm_jax.data.protocols import document_starts
from semdlm_jax.data.records import FIELD
from semdlm_jax.data.sealing import WHOLE, check_seals, seal_of
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.data.tokenizers import load_tokenizer, sampled
from semdlm_jax.data.unknown import UNKNOWN_WARNED, unknown_share_of
from semdlm_jax.entropy import entropy, smoothed_cross_entropy
from semdlm_jax.errors import CodeNotLoadedError, UserError
from semdlm_jax.former import rename
from semdlm_jax.options import counted
from semdlm_jax.storage import PathLike, check_regular, digest_of, write_text

COMMAND = "python -m semdlm_jax.data.prepare --config=…"
META, UNIGRAM = "meta.json", "unigram.npy"
SOURCES = ("corpus", *SPLITS)  # settings that name files
LEARNED = "sentencepiece"
# Values of settings in directories that were prepared before these settings existed.
FORMER = {"tokenizer": LEARNED, "train": "", "valid": "", "test": "", "field": FIELD}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared directory, open for reading.

    splits: {'train' | 'valid' | 'test': [N] uint16 or int32 memmap}, streams `[begin] doc [end] [begin] doc [end] …`.
    unigram: [V] int64, how often each token occurs in train. meta: what meta.json says.
    """

    directory: pathlib.Path
    tokenizer: Tokenizer
    splits: dict
    unigram: np.ndarray
    meta: dict

    def starts(self, split):
        """[D + 1] int64: where each document of the split's stream starts, and its end."""
        path = self.directory / starts_file(split)
        if not path.exists():
            return document_starts(self.splits[split], self.tokenizer.bos_id)
        return np.load(path, mmap_mode="r")

    def unigram_entropy(self, split):
        """The entropy of the split's own token frequencies, special tokens included, in nats per token."""
        return entropy(self._counts(split))

    def unigram_cross_entropy(self, split):
        """The cross-entropy of the split under the train frequencies, each count plus one, in nats per token."""
        return smoothed_cross_entropy(self._counts(split), self.unigram)

    def unknown_share(self, split) -> float:
        """The share of unknown tokens among the split's tokens of text."""
        return unknown_share_of(self.tokenizer, self._counts(split))

    def differing(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """{name: (value then, value now)} of settings with other values than this was prepared with. Specs of corpora
        are equal if they name the same files."""
        then, sources = self.meta["settings"], self.meta.get("sources", {})

        def same(name, now):
            former = then.get(name)
            return former == now or (name in SOURCES and former and now and same_files(sources.get(name, former), now))

        return {name: (then.get(name), now) for name, now in settings.items() if not same(name, now)}

    def _counts(self, split):
        return self.unigram if split == "train" else count_tokens(self.splits[split], self.tokenizer.vocab_size)


def open_prepared(directory: PathLike, whole: bool = False) -> Prepared:
    """Opens a directory that `prepare` wrote.

    Args:
        directory: its path, or its address on a store.
        whole: check every byte of large files, of which otherwise a sample is checked.

    Raises:
        UserError: it is missing, incomplete or damaged, or its contents have changed. Directories of earlier versions
            have no digests; their ids and sizes are checked, and preparing again stores digests.
    """
    directory = remote.local(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no prepared data there: run {COMMAND}")
    remove = f"remove it and run {COMMAND}"
    try:
        for path in directory.iterdir():
            check_regular(path)
        meta = json.loads((directory / META).read_text())
        if "files" in meta:
            check_seals(directory, meta["files"], whole)
            if meta.pop("sha256") != digest_of(meta):
                raise UserError(f"{META} has other contents than were written")
        settings = rename("data", meta["settings"])
        meta["settings"] = FORMER | _former_spelling(settings) | settings
        splits = {split: np.load(directory / tokens_file(split), mmap_mode="r") for split in SPLITS}
        prepared = Prepared(directory, load_tokenizer(directory), splits, np.load(directory / UNIGRAM), meta)
        fault = _fault(prepared, whole)
    except CodeNotLoadedError:
        raise
    except UserError as error:
        raise UserError(f"{directory}: its files do not belong together ({error}): {remove}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, RecursionError) as error:
        cause = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"{directory}: prepared data incomplete ({cause}): {remove}") from None
    if fault:
        raise UserError(f"{directory}: its files do not belong together ({fault}): {remove}")
    return prepared


def _former_spelling(settings):
    """The former values of settings that only SentencePiece has."""
    kind = settings.get("tokenizer", LEARNED)
    if kind.partition(":")[0] != LEARNED:
        return {}
    return {"normalize": True} | ({"byte_fallback": False} if kind == LEARNED else {})


def _fault(prepared, whole):
    """What is inconsistent in a prepared directory, or None."""
    meta, tokenizer = prepared.meta, prepared.tokenizer
    if tokenizer.fingerprint != meta["fingerprint"] or prepared.unigram.shape != (tokenizer.vocab_size,):
        return "the vocabulary is another"
    for split, stream in prepared.splits.items():
        if stream.ndim != 1 or stream.dtype.kind not in "ui" or len(stream) != meta["tokens"][split]:
            return f"{tokens_file(split)} does not hold {meta['tokens'][split]:,} tokens"
        int(meta["characters"][split])
        starts = prepared.starts(split)
        if starts.shape != (meta["documents"][split] + 1,) or starts[0] != 0 or starts[-1] != len(stream):
            return f"{starts_file(split)} does not hold the starts of {meta['documents'][split]:,} documents"
        if whole or ("files" not in meta and stream.nbytes <= WHOLE):
            if not ids_below(stream, tokenizer.vocab_size):
                return f"{tokens_file(split)} holds ids that the vocabulary has not"
            if split == "train" and (count_tokens(stream, tokenizer.vocab_size) != prepared.unigram).any():
                return f"{tokens_file(split)} does not hold the tokens that {UNIGRAM} counts"
    framing = {tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id}
    if prepared.unigram[[i for i in tokenizer.special_ids if i not in framing]].any():
        return "text was taken for special tokens, as versions before this one could"
    return None


def sources_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """{name: absolute spec} of settings that name files, to be recognized from any directory."""
    return {name: absolute(settings[name]) for name in SOURCES if settings.get(name)}


def write_meta(directory: pathlib.Path, meta: dict, tokenizer: Tokenizer) -> None:
    """Writes META of a directory whose other files are written: what `meta` says, and digests of them and of that."""
    names = [file(split) for split in SPLITS for file in (tokens_file, starts_file)]
    names += [UNIGRAM, tokenizer.FILE, "tokenizer.json"]
    files = {name: seal_of(directory / name) for name in names if (directory / name).exists()}
    meta = {**meta, "files": files}
    write_text(directory / META, json.dumps({**meta, "sha256": digest_of(meta)}, indent=2) + "\n")


def _spelling(settings):
    """Whether the text was normalized, for vocabularies that have this setting; else ''."""
    asked = settings.get("normalize")
    return "" if asked is None else f", normalized {asked}"


def describe(prepared, padded=False):
    """A readable summary, one line a split. padded: with what padded rows leave out."""
    meta = prepared.meta
    lines = [
        f"{prepared.directory}: {meta['origin']}",
        f"vocabulary of {prepared.tokenizer.vocab_size} pieces ({meta['settings']['tokenizer']}), "
        f"lowercase {prepared.tokenizer.lowercase}{_spelling(meta['settings'])}, "
        f"fingerprint {prepared.tokenizer.fingerprint[:12]}",
        f"{'split':<6}{'documents':>12}{'tokens':>15}{'chars/token':>12}{'unknown':>9}{'entropy':>9}{'unigram':>9}"
        "  (nats/token)",
    ]
    unknown = {split: prepared.unknown_share(split) for split in SPLITS}
    for split in SPLITS:
        tokens = meta["tokens"][split]
        lines.append(
            f"{split:<6}{meta['documents'][split]:>12,}{tokens:>15,}{meta['characters'][split] / tokens:>12.2f}"
            f"{unknown[split]:>9.2%}{prepared.unigram_entropy(split):>9.3f}"
            f"{prepared.unigram_cross_entropy(split):>9.3f}"
        )
    if (most := max(unknown.values())) > UNKNOWN_WARNED:
        lines.append(f"warning: {most:.1%} of the tokens are unknown to the vocabulary: take one made for such text")
    if (skipped := meta.get("skipped")) and skipped["rows"]:
        lines.append(f"skipped {counted(skipped['rows'], 'row')} without text: the first is {skipped['first']}")
    if sample := meta.get("sample"):
        lines.append(sampled(sample))
    if padded and (padding := meta.get("padding")):
        lost = ", ".join(
            f"{split} {counted(padding['tokens_lost'][split], 'token')} of "
            f"{counted(padding['documents_cut'][split], 'document')}"
            for split in SPLITS
        )
        lines.append(f"padded rows of {padding['length']} tokens leave out: {lost}")
    return "\n".join(lines)
