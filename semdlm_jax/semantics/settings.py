"""How a neighbour table is built: the keys of the configuration's `semantics` section, checked before any work."""

import dataclasses

from semdlm_jax.errors import UserError
from semdlm_jax.keys import check_options
from semdlm_jax.semantics.sources import check_source

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


@dataclasses.dataclass(frozen=True)
class Settings:
    """neighbours: K, entries a token. embeddings: ppmi, package:NAME, hf:NAME or checkpoint:DIR.
    dimensions, window: of PPMI vectors, the second in tokens; other sources ignore both.
    centre: the mean of all vectors is removed. remove_components: so many top principal components too; -1: what suits
    the source, none for PPMI and 3 for the others. hubness: a name of HUBNESS. max_in_degree: lists that may hold one
    token, for `cap`; None for no bound. min_count: training occurrences below which a token has no neighbours; without
    a corpus nothing is known to be rare. characters: a name of CHARACTERS, what tokens with neighbours consist of.
    separate_continuations: tokens that begin a word and tokens that go on with one are no neighbours of each other.
    prior_tokens: a name of PRIOR_TOKENS, what a unigram prior may produce; how rare they may be, and the power of their
    counts, are kernel.least and kernel.tau.
    UserError: a value that no table can be built with.
    """

    neighbours: int = 32
    embeddings: str = "ppmi"
    dimensions: int = 128
    window: int = 4
    centre: bool = True
    remove_components: int = BY_SOURCE
    hubness: str = "cap"
    max_in_degree: int | None = 128
    min_count: int = 5
    characters: str = "auto"
    separate_continuations: bool = False
    prior_tokens: str = "words"

    def __post_init__(self):
        check_source(self.embeddings)
        values = dataclasses.asdict(self)
        check_options("semantics", **{name: value for name, value in values.items() if value is not None})
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


def from_config(semantics):
    """Settings of a configuration's section, in which every key is there."""
    return Settings(
        neighbours=semantics.neighbours,
        embeddings=semantics.embeddings,
        dimensions=semantics.dimensions,
        window=semantics.window,
        centre=semantics.centre,
        remove_components=semantics.remove_components,
        hubness=semantics.hubness,
        max_in_degree=semantics.max_in_degree,
        min_count=semantics.min_count,
        characters=semantics.characters,
        separate_continuations=semantics.separate_continuations,
        prior_tokens=semantics.prior_tokens,
    )
