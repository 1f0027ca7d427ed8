"""A kernel of your own: only a share of SemDLM+'s drift is drift, the rest jumps."""

import dataclasses

from semdlm_jax.kernels import KERNELS, GlobalPrior, Kernel, KernelSpec, branches
from semdlm_jax.options import number
from semdlm_jax.plugins import field

SHARE = number(0.5, "[0, 1]", "of SemDLM+'s drift that is drift")


@dataclasses.dataclass(frozen=True)
class Shared(branches.Drifting):
    share: float = field(SHARE)

    def weights(self, t):  # keep, jump, drift, and how far a neighborhood has grown beyond its first token
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        drift = self.share * noise * alpha
        return branches.Weights(alpha, noise * (1 - self.share * alpha), drift, self.k_minus_1(noise))


@dataclasses.dataclass(frozen=True)
class LessDrift(KernelSpec):
    """Tokens drift to neighbors and jump anywhere: beta = n (1 - share (1 - n))."""

    share: float = field(SHARE)

    needs_neighbors = True

    def build(self, vocabulary):
        table = vocabulary.require("table")
        mixture = Shared(table.k_max, share=self.share, schedule=self.schedule)
        return Kernel(table, GlobalPrior.uniform(vocabulary.size), mixture)


KERNELS["less_drift"] = LessDrift
