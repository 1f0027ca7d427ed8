"""A kernel of your own: a token jumps to any token, uniformly or by its frequency in the training text."""

import dataclasses

from semdlm_jax.kernels import GlobalPrior, Kernel, KernelSpec, NeighborTable, branches
from semdlm_jax.options import number
from semdlm_jax.plugins import field


@dataclasses.dataclass(frozen=True)
class MixedNoise(KernelSpec):
    """Tokens become any token: a mixture of uniform and unigram noise."""

    uniform_part: float = field(number(0.5, "[0, 1]", "the share of uniform noise; the rest is unigram noise"))

    def build(self, vocabulary):
        counts = vocabulary.require("unigram")
        probs = self.uniform_part / vocabulary.size + (1 - self.uniform_part) * counts / counts.sum()
        no_neighbors = NeighborTable.empty(vocabulary.size)
        return Kernel(no_neighbors, GlobalPrior.from_probs(probs), branches.Global(schedule=self.schedule))
