"""How a neighbor table is built: the keys of the configuration's `semantics` section, checked before any work."""

import dataclasses

from semdlm_jax.errors import UserError, choose
from semdlm_jax.options import number, switch, text
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
BY_SOURCE = -1  # of remove_components
PRETRAINED_COMPONENTS = 3
OF_PPMI = "semantics.embeddings: ppmi"


@dataclasses.dataclass(frozen=True)
class TableSettings(Plugin):
    """neighbors: K, entries a token. embeddings: ppmi, package:NAME, hf:NAME or checkpoint:DIR.
    dimensions, window: of PPMI vectors, the second in tokens; other sources ignore both.
    center: the mean of all vectors is removed. remove_components: so many top principal components too; -1: what suits
    the source, none for PPMI and 3 for the others. hubness: a name of HUBNESS. max_in_degree: lists that may hold one
    token, for `cap`; None for no bound. min_count: training occurrences below which a token has no neighbors; without
    a corpus nothing is known to be rare. characters: a name of CHARACTERS, what tokens with neighbors consist of.
    separate_continuations: tokens that begin a word and tokens that go on with one are no neighbors of each other.
    prior_tokens: a name of PRIOR_TOKENS, what a unigram prior may produce; how rare they may be, and the power of their
    counts, are kernel.min_count and kernel.prior_exponent.
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
        switch(False, "pieces that go on with a word are no neighbors of those that begin one")
    )
    prior_tokens: str = field(
        text(
            "words",
            "what the unigram prior may produce: words (Eq. 119), pieces or any",
            "semantics.settings:PRIOR_TOKENS",
            only="kernel.prior: unigram",
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

    @property
    def components(self):
        """Top principal components to remove, with -1 resolved."""
        if self.remove_components != BY_SOURCE:
            return self.remove_components
        return 0 if self.embeddings == "ppmi" else PRETRAINED_COMPONENTS


def from_config(semantics) -> TableSettings:
    """The settings of a configuration's section, in which every key is there."""
    return TableSettings(**{name: semantics[name] for name in options_of(TableSettings)})


def check_source(embeddings):
    """UserError unless `embeddings` is `ppmi`, or another of EMBEDDINGS with what it asks for after a colon."""
    kind, _, name = embeddings.partition(":")
    choose("embeddings", kind, EMBEDDINGS)
    if bool(name) == (kind == "ppmi"):
        mend = "ppmi takes no name" if kind == "ppmi" else f"give {kind}:{'DIR' if kind == 'checkpoint' else 'NAME'}"
        raise UserError(f"--embeddings={embeddings} is incomplete or too much: {mend}")
