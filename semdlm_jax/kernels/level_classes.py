"""Level processes of several classes of tokens, as one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.levels import LevelProcess, Table

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ProcessByClass:
    """A process for every class of tokens. They differ up to the first level of symbols, and a class is a set of blocks
    of all levels that draw: so the class of a token stays until it is a symbol, and this is a Markov chain.

    Args:
        classes: [V] int32, the class of every token.
        processes: of each class.
        drawing: how many levels draw tokens.
    """

    classes: Array
    processes: tuple[LevelProcess, ...] = dataclasses.field(metadata={"static": True})
    drawing: int = dataclasses.field(metadata={"static": True})

    @property
    def several(self) -> bool:
        """Whether there is more than one class."""
        return len(self.processes) > 1

    def alpha(self, t: Array) -> Array:
        """The chance that a token of the class noised first is clean. What another class keeps beyond it counts as
        noise that gives the token itself."""
        return functools.reduce(jnp.minimum, [process.kept(t)[0] for process in self.processes])

    def noise(self, t: Array) -> Array:
        """1 - alpha, with its own relative accuracy."""
        return functools.reduce(jnp.maximum, [process.kept(t)[1] for process in self.processes])

    def weights(self, tokens: Array, t: Array) -> list[Array]:
        """[a_0 - alpha, a_1, ..., a_D] of clean tokens; shapes broadcast."""
        weights = self._of_class(tokens, [process.weights(t) for process in self.processes])
        if not self.several:
            return [jnp.zeros_like(weights[0]), *weights]
        alpha, noise = self.alpha(t), self.noise(t)
        # Of two ways to write the difference, that which subtracts no two numbers near 1.
        kept = [process.kept(t) for process in self.processes]
        beyond = self._of_class(tokens, [jnp.where(noise < 0.5, noise - least, most - alpha) for most, least in kept])
        return [beyond, *weights]

    def chances(self, t: Array, s: Array) -> list[Table]:
        """Those of every class, for `table`."""
        return [process.chances(t, s) for process in self.processes]

    def rates(self, t: Array) -> list[Table]:
        """Those of every class, for `table`."""
        return [process.rates(t) for process in self.processes]

    def table(self, tokens: Array, found: list[Table]) -> Table:
        """One Table of those of all classes: states that are tokens have the rows of the classes of `tokens`."""
        own = self._of_class(tokens, [table[: self.drawing + 1] for table in found])
        return [*own, *found[0][self.drawing + 1 :]]

    def _of_class(self, tokens, found):
        """What was found for every class, trees of arrays, at the classes of tokens; shapes broadcast."""
        picked, *others = found
        for index, other in enumerate(others, 1):
            here = self.classes[tokens] == index
            picked = jax.tree.map(functools.partial(jnp.where, here), other, picked)
        return picked
