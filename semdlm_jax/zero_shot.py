"""Perplexities of a model on texts of other sources, each by a stated protocol, in bounded memory."""

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from semdlm_jax import scores
from semdlm_jax.data.documents import digest_of, stamp_of
from semdlm_jax.data.encoding import encode_corpus, starts_file, tokens_file
from semdlm_jax.data.protocols import make_rows
from semdlm_jax.data.unknown import unknown_remarks
from semdlm_jax.data.zero_shot import Text
from semdlm_jax.evaluation.report import MODEL, OF_FIGURES, Section, likelihood_figures
from semdlm_jax.options import counted
from semdlm_jax.runtime.progress import tell
from semdlm_jax.storage import storage_errors

DIGITS = 16  # of a digest that readers see
ERRORS = {
    "sequences": "95 % interval over rows",
    "draws": "95 % interval over the draws of its one row",
    None: "no interval of one draw of one row",
}


def stamps(texts: Sequence[Text]) -> list[str]:
    """What changes with the documents of each text."""
    return [stamp_of(text.corpus) or digest_of(text.corpus) for text in texts]


def columns_of(names: Sequence[str]) -> dict[str, str]:
    """{name: its column}: 'text:letter.txt' of 'text:/home/me/letter.txt', unless another would be called so, too."""
    short = {name: _without_folder(name) for name in names}
    return {name: label if list(short.values()).count(label) == 1 else name for name, label in short.items()}


def _without_folder(name):
    head, colon, rest = name.partition(":")
    return head + colon + os.path.basename(rest.rstrip("/"))


def score_texts(subject: Any, texts: Sequence[Text], protocol: str) -> Section:
    """The bound of a `subject.Subject` on each text, in a column of its own. A text that is done is kept.

    Args:
        subject: with the model, the seed and what is kept.
        texts: to score.
        protocol: of the rows of those that have none of their own.
    """
    found, columns = {}, columns_of([text.name for text in texts])
    for text, stamp in zip(texts, stamps(texts), strict=True):
        rows = text.protocol or protocol
        of = [subject.identity_of_model, text.name, text.split, text.limit, text.field, rows, stamp]
        found[columns[text.name]] = _kept(subject, of, text, rows)
    figures, comparable = {}, {}
    for name, result in found.items():
        for key, figure in likelihood_figures({MODEL: result}).items():
            about = f"{name}: {result['protocol']}" if key == "nelbo" else ""  # once a text
            figures[f"{name} {key}"] = dataclasses.replace(figure, title=f"{name}: {figure.title}", meaning=about)
            comparable[f"{name} {key}"] = _comparable(result, key)
    pieces = counted(subject.tokenizer.vocab_size, "token")
    return Section(
        "Zero-shot perplexity",
        f"the model's own vocabulary of {pieces}: perplexities under different vocabularies do not compare, bits per "
        "byte do; how each text is read stands below",
        figures,
        details=found,
        remarks=tuple(
            f"{name}: {line}" for name, result in found.items() for line in unknown_remarks(result["unknown_share"])
        ),
        comparable={OF_FIGURES: comparable},
    )


def _comparable(result, key):
    """What must be equal for a figure of a text to be compared."""
    if key == "bits_per_byte":  # a text has its bytes under any vocabulary
        return {"text": result["comparable"]["text"]}
    return result["comparable"]


def _kept(subject, of, text, protocol):
    """`_score`, taken up where an earlier call was stopped."""
    tell(f"zero_shot: {text.name}")
    (found,) = subject.store.remember("zero_shot", of, lambda: [np.array(json.dumps(_score(subject, text, protocol)))])
    return json.loads(str(found))


def _score(subject, text, protocol) -> dict:
    trained, tokenizer = subject.trained, subject.tokenizer
    with _folder(subject.store) as folder:
        with storage_errors(folder):
            writers, digest = encode_corpus(text.corpus, tokenizer, folder, (text.split,))
        tokens, starts = (np.load(folder / name(text.split), mmap_mode="r") for name in (tokens_file, starts_file))
        rows = make_rows(protocol, tokens, trained.config.data.length, tokenizer, starts)
        kept = subject.store.kept("zero_shot_rows", [subject.identity_of_model, digest.hex(), rows.describe()])
        options = {"seed": subject.seed, "draws": subject.draws, "batch_size": subject.batch_size, "kept": kept}
        likelihood, score = scores.score_rows(trained, rows, **options)
        details = scores.likelihood_details(trained, rows, likelihood)
    documents, skipped = writers[text.split].documents, text.corpus.skipped.rows
    number = counted(documents, "document") + f" (at most the first {text.limit:,})" * bool(text.limit)
    read = f"{text.corpus.origin}, {text.words}; {number}, each {text.document}; {skipped:,} blank skipped"
    scored = f"{counted(likelihood.tokens, 'token')} scored, {details['unknown_share']:.2%} of the text unknown"
    return {
        "corpus": text.name,
        **details,
        "documents": documents,
        "skipped": skipped,
        "comparable": subject.comparable(text=digest.hex()[:DIGITS], rows=rows.describe()),
        "protocol": "; ".join(filter(None, (read, scored, score, ERRORS[likelihood.error_over], text.note))),
    }


@contextlib.contextmanager
def _folder(store):
    """A folder for the tokens of a text, beside the report where there is one: a text may be larger than memory."""
    with contextlib.ExitStack() as stack:
        with storage_errors(store.folder or tempfile.gettempdir()):
            if store.folder is not None:
                store.folder.mkdir(exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="semdlm_jax_", dir=store.folder))
        yield pathlib.Path(folder)
