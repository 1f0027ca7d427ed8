"""The options of the kernel `nested`."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.level_classes import ProcessByClass
from semdlm_jax.kernels.levels import FASTEST, SLOWEST, Direct, LevelProcess, Sequential
from semdlm_jax.kernels.mask_rates import FREQUENCY_POWERS, frequency_classes
from semdlm_jax.kernels.nested import NestedKernel
from semdlm_jax.kernels.partitions import Partitions
from semdlm_jax.kernels.prior import EXPONENT, PRIOR, UNIGRAM
from semdlm_jax.kernels.spec import KernelSpec
from semdlm_jax.kernels.vocabulary import BUILD, Vocabulary
from semdlm_jax.options import blocks_in, counted, number, numbers_in, text
from semdlm_jax.plugins import field

POWER, SPEED = "(0, 1000]", f"[{SLOWEST}, {FASTEST:g}]"
PATHS = ("direct", "sequential")


@dataclasses.dataclass(frozen=True)
class Nested(KernelSpec):
    """Tokens are drawn anew from blocks of like meaning, from coarser ones, and at last from the whole vocabulary; or
    they become the symbols of blocks and at last MASK. A Markov chain, whose bound is tight.

    The D levels are the partitions named by `blocks`, from fine to coarse, and a last one: the whole vocabulary. On the
    first `resampled` of them tokens are drawn anew, on the others they become symbols; the last symbol is MASK.
    """

    blocks: str = field(text("64", "numbers of blocks, from fine to coarse, of partitions in the neighbor table"))
    resampled: int = field(number(-1, "[-1, 100]", "levels that draw tokens, the others have symbols; -1: all"))
    path: str = field(text("direct", "how levels are reached: direct, or sequential by all levels between", PATHS))
    powers: str = field(
        text("", "p_1,p_2,…: n^p is the chance of an event above the level; '': 2,3,…", only="kernel.path: direct")
    )
    speeds: str = field(
        text("", "of each level to the next; 'gamma,1' is HDLM; '': …,3,2,1", only="kernel.path: sequential")
    )
    frequency_powers: str = field(FREQUENCY_POWERS)
    prior: str = field(PRIOR)
    prior_exponent: float = field(dataclasses.replace(EXPONENT, only=UNIGRAM))

    needs_partitions = True

    def __post_init__(self):
        super().__post_init__()
        if self.resampled > self.levels:
            told = f"there are {counted(self.levels, 'level')}, the last one included"
            raise UserError(f"kernel.resampled = {self.resampled}, but {told}: give at most {self.levels}")
        if self.path == "sequential" and self.drawing:
            raise UserError("kernel.path = 'sequential' is for symbols alone: set kernel.resampled = 0")
        if self._of_classes and self.drawing == self.levels:
            raise UserError(
                "kernel.frequency_powers changes when tokens become symbols, of which there are none here: leave it "
                f"out, or set kernel.resampled to 0, …, {self.levels - 1}"
            )
        self.processes  # noqa: B018  checks the numbers of its levels

    @property
    def levels(self) -> int:
        """D."""
        return len(blocks_in("kernel.blocks", self.blocks)) + 1

    @property
    def drawing(self) -> int:
        """How many levels draw tokens."""
        return self.levels if self.resampled < 0 else self.resampled

    @property
    def _of_classes(self) -> tuple[float, ...]:
        return numbers_in("kernel.frequency_powers", self.frequency_powers, "[0.01, 100]")

    @property
    def processes(self) -> tuple[LevelProcess, ...]:
        """One for every number of frequency_powers; one if there is none."""
        return tuple(map(self._of_class, self._of_classes)) or (self._process(1.0),)

    def _of_class(self, power: float) -> LevelProcess:
        try:
            return self._process(power)
        except UserError as error:
            raise UserError(f"{error}; {power:g} of kernel.frequency_powers is in them") from None

    def _process(self, power: float) -> LevelProcess:
        """With `power` the chance of symbols is n^(power p) where it was n^p, or their speed that part of it."""
        if self.path == "direct":
            powers = numbers_in("kernel.powers", self.powers, POWER) or tuple(range(2, self.levels + 1))
            self._check_count("kernel.powers", powers, self.levels - 1)
            first, *powers = (p * power if d == self.drawing else p for d, p in enumerate((1.0, *map(float, powers))))
            return Direct(self.schedule, tuple(powers), first)
        speeds = numbers_in("kernel.speeds", self.speeds, SPEED) or tuple(range(self.levels, 0, -1))
        self._check_count("kernel.speeds", speeds, self.levels)
        return Sequential(self.schedule, (speeds[0] / power, *map(float, speeds[1:])))

    def _check_count(self, key, values, wanted):
        if len(values) != wanted:
            raise UserError(
                f"{key} has {counted(len(values), 'number')}, but kernel.blocks = {self.blocks!r} makes "
                f"{counted(self.levels, 'level')}: give {wanted}"
            )

    def num_symbols(self, vocabulary):
        text = np.arange(vocabulary.size) != vocabulary.mask_id
        return sum(len(np.unique(level[text])) for level in self._partitions(vocabulary)[self.drawing :])

    def _partitions(self, vocabulary):
        return [_partition(vocabulary, n) for n in blocks_in("kernel.blocks", self.blocks)]

    def build(self, vocabulary):
        masked = self.drawing < self.levels
        levels = self._partitions(vocabulary)
        levels += [] if masked else [np.zeros(vocabulary.size, int)]
        base = np.ones(vocabulary.size)
        if self.prior == "unigram":
            # Half a count for every token, so that every block has something to draw.
            base = (vocabulary.require("unigram") + 0.5) ** self.prior_exponent
        mask_id = vocabulary.mask_id if masked else None
        partitions = Partitions.from_blocks(np.array(levels, int), base, self.drawing, apart=mask_id)
        classes = jnp.asarray(self._classes(vocabulary), jnp.int32)
        return NestedKernel(partitions, ProcessByClass(classes, self.processes, self.drawing), mask_id)

    def _classes(self, vocabulary):
        """[V]: of the blocks of the last level that draws, or of tokens if none does, by their frequency."""
        if not self._of_classes:
            return np.zeros(vocabulary.size, int)
        blocks = self._partitions(vocabulary)[self.drawing - 1] if self.drawing else np.arange(vocabulary.size)
        counts = np.bincount(blocks, vocabulary.require("unigram"), blocks.max() + 1)
        return frequency_classes(counts, len(self._of_classes))[blocks]


def _partition(vocabulary: Vocabulary, blocks: int) -> np.ndarray:
    """[V]: the partition of the vocabulary into so many blocks of text."""
    there = {int(level.max()): level for level in np.asarray(vocabulary.require("partitions"))}
    if blocks not in there:
        sizes = ", ".join(map(str, sorted(there, reverse=True)))
        raise UserError(
            f"kernel.blocks asks for {blocks} blocks, but the partitions have {sizes}: give some of these, or set "
            f"semantics.blocks and run {BUILD}"
        )
    return there[blocks]
