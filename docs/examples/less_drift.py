"""A kernel of your own: only a share of SemDLM+'s drift is drift, the rest jumps."""

import dataclasses

from semdlm_jax.kernels import KERNELS, GlobalPrior, Kernel, branches, schedules


@dataclasses.dataclass(frozen=True)
class LessDrift:
    k_max: int
    share: float
    schedule: schedules.Schedule

    def weights(self, t):  # keep, jump, drift, and how far a neighbourhood has grown beyond its first token
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        drift = self.share * noise * alpha
        return branches.Weights(alpha, noise * (1 - self.share * alpha), drift, (self.k_max - 1) * noise)


def less_drift(vocabulary, *, schedule=schedules.Linear(), share=0.5):
    table = vocabulary.require("table")
    return Kernel(table, GlobalPrior.uniform(vocabulary.size), LessDrift(table.k_max, share, schedule))


KERNELS["less_drift"] = less_drift
