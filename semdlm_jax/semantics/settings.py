"""How a neighbor table is built: the keys of the configuration's `semantics` section, checked before long work."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semdlm_jax.errors import UserError, choose
from semdlm_jax.options import blocks_in, number, switch, text
from semdlm_jax.plugins import Plugin, field, options_of

EMBEDDINGS = {
    "ppmi": "made from the corpus itself",
    "package": "those of an installed package",
    "hf": "those of a Hugging Face model",
    "checkpoint": "those of a run",
}
HUBNESS = {
    "cap": "at most max_in_degree lists hold the same token",
    "csls": "tokens in dense regions are pushed back: cross-domain similarity local scaling",
    "none": "the nearest as they are",
}
CHARACTERS = {
    "auto": "ascii for WordPiece vocabularies, any for others",
    "ascii": "ASCII letters and digits alone",
    "any": "at least one letter or digit of any script",
}
PRIOR_TOKENS = {
    "words": "tokens that begin a word and hold a letter or digit",
    "pieces": "tokens that hold a letter or digit",
    "any": "every token of text",
}
PARTITIONS = {
    "kmeans": "tokens of like meaning",
    "random": "tokens at random in blocks of the same sizes, to compare with",
}
BY_SOURCE = -1  # of remove_components
PRETRAINED_COMPONENTS = 3
OF_PPMI = "semantics.embeddings: ppmi"


@dataclasses.dataclass(frozen=True)
class TableSettings(Plugin):
    """How a table is built.

    Args:
        neighbors: K, entries a token.
        embeddings: ppmi, package:NAME, hf:NAME or checkpoint:DIR.
        dimensions, window: of PPMI vectors, the window in tokens; other sources ignore both.
        center: whether the mean of all vectors is removed.
        remove_components: how many top principal components are removed; -1: none for PPMI, 3 for other sources.
        hubness: a name of HUBNESS.
        max_in_degree: how many lists may hold one token, for `cap`; None for no bound.
        min_count: training occurrences below which a token has no neighbors; not applied without a corpus.
        characters: a name of CHARACTERS, what tokens with neighbors consist of.
        separate_continuations: tokens that begin a word and tokens that continue one are never neighbors.
        prior_tokens: a name of PRIOR_TOKENS, what a unigram prior may produce. kernel.min_count says how rare these may
            be, and kernel.prior_exponent to which power their counts are taken.
        blocks: numbers of blocks of text of the nested partitions, from fine to coarse; '' for no partitions. Special
            tokens are one more block on every level.
        partition: a name of PARTITIONS, what the blocks hold.

    Raises:
        UserError: a value that no table can be built with.
    """

    neighbors: int = field(number(32, "[1, 65536]", "stored a token; a kernel may use fewer"))
    embeddings: str = field(
        text(
            "ppmi",
            "ppmi (from the corpus itself), package:NAME, hf:NAME or checkpoint:DIR",
            "semantics.settings:EMBEDDINGS",
            path="after",
        )
    )
    dimensions: int = field(number(128, "[1, 65536]", "of PPMI vectors", only=OF_PPMI))
    window: int = field(number(4, "[1, 1024]", "of PPMI, in tokens", only=OF_PPMI))
    center: bool = field(switch(True, "remove the mean of all vectors"))
    remove_components: int = field(
        number(
            BY_SOURCE, "[-1, 65536]", "top principal components removed; -1: what suits the source, 0 for ppmi, else 3"
        )
    )
    hubness: str = field(text("cap", "what keeps hubs from every list", "semantics.settings:HUBNESS"))
    max_in_degree: int | None = field(number(128, "[1, 2097152]", "of cap", only="semantics.hubness: cap"))
    min_count: int = field(number(5, "[0, 1000000000]", "occurrences below which a token has no neighbors"))
    characters: str = field(
        text(
            "auto",
            "of tokens with neighbors: ascii, any, or auto (ascii for WordPiece vocabularies)",
            "semantics.settings:CHARACTERS",
        )
    )
    separate_continuations: bool = field(
        switch(False, "pieces that continue a word are no neighbors of those that begin one")
    )
    prior_tokens: str = field(
        text(
            "words",
            "what the unigram prior may produce: words (Eq. 119), pieces or any",
            "semantics.settings:PRIOR_TOKENS",
            only="kernel.prior: unigram",
        )
    )
    blocks: str = field(
        text("256,64,16", "numbers of blocks of text of the nested partitions, from fine to coarse; '' for none")
    )
    partition: str = field(
        text(
            "kmeans",
            "what a block holds: kmeans (tokens of like meaning), or random (to compare with)",
            "semantics.settings:PARTITIONS",
        )
    )

    def __post_init__(self):
        check_source(self.embeddings)
        super().__post_init__()
        if self.embeddings == "ppmi" and self.components >= self.dimensions:
            raise UserError(
                f"semantics.remove_components = {self.components} leaves none of {self.dimensions} dimensions: "
                "give less"
            )
        if not self.levels and self.partition != "kmeans":
            raise UserError(f"semantics.partition = {self.partition!r} has no blocks: give semantics.blocks, too")

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of blocks from fine to coarse, of `blocks`."""
        return blocks_in("semantics.blocks", self.blocks)

    @property
    def components(self) -> int:
        """Top principal components to remove, with -1 resolved."""
        if self.remove_components != BY_SOURCE:
            return self.remove_components
        return 0 if self.embeddings == "ppmi" else PRETRAINED_COMPONENTS


def from_config(semantics: Mapping[str, Any]) -> TableSettings:
    """The settings of a configuration's section, which has every key."""
    return TableSettings(**{name: semantics[name] for name in options_of(TableSettings)})


def check_source(embeddings: str) -> None:
    """UserError unless `embeddings` is `ppmi`, or another of EMBEDDINGS with what it asks for after a colon."""
    kind, _, name = embeddings.partition(":")
    choose("embeddings", kind, EMBEDDINGS)
    if bool(name) == (kind == "ppmi"):
        mend = "ppmi takes no name" if kind == "ppmi" else f"give {kind}:{'DIR' if kind == 'checkpoint' else 'NAME'}"
        raise UserError(f"--embeddings={embeddings} is incomplete or too much: {mend}")
