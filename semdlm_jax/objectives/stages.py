"""A training run in stages: the same network under one objective after another.

With the `bayes` parameterization the logits estimate log p(x0 | context) under every kernel, because the kernel itself
supplies the likelihood q_t(x_t | x0). A network can therefore learn to use context on masked text first, where every
noisy position is marked and the signal is strong, and then continue under a kernel whose noise looks like text.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.objectives.base import NoisyBatch, ObjectiveBase


@dataclasses.dataclass(frozen=True)
class Stages:
    """Objectives one after another.

    Attributes:
        objectives: objectives[i] trains the steps from starts[i] (0-based) up to, not including, starts[i + 1].
        starts: their first steps, ascending; starts[0] is 0.

    Raises:
        UserError: stages out of order, times that a loss needs are never drawn, or a change of kernel under a
            parameterization whose logits depend on the kernel.
    """

    objectives: tuple[ObjectiveBase, ...]
    starts: tuple[int, ...]

    def __post_init__(self):
        if self.starts[0] != 0 or sorted(self.starts) != list(self.starts):
            raise UserError(f"training stages must start at step 0 and follow one another, not start at {self.starts}")
        for objective in self.objectives:
            objective.check_times()
        several = len(self.objectives) > 1
        if several and not all(objective.any_kernel for objective in self.objectives):
            raise UserError(
                "a warm-up under another kernel needs objective.parameterization = 'bayes': "
                "under 'direct' the logits mean something else for every kernel"
            )

    def _at(self, step, branches, *operands):
        stage = jnp.searchsorted(jnp.asarray(self.starts), step, side="right") - 1
        return jax.lax.switch(stage, branches, *operands)

    def corrupt(self, key, x0_BxL, mask_BxL, step) -> NoisyBatch:
        """A batch corrupted under the objective of this step. If a stage has clean positions, batches of the others say
        that they have none."""
        some = any(objective.clean_rows for objective in self.objectives)

        def branch(objective):
            def corrupt(*arrays):
                batch = objective.corrupt(*arrays)
                none = some and batch.clean is None
                return batch._replace(clean=jnp.zeros(x0_BxL.shape, bool)) if none else batch

            return corrupt

        return self._at(step, [branch(objective) for objective in self.objectives], key, x0_BxL, mask_BxL)

    def sums(self, readout, features_BxLxD, batch: NoisyBatch, step, key):
        """(sum of losses, sum of weights) under the objective of this step; readout: [..., D] -> logits [..., V]."""

        def branch(objective):
            return lambda *arrays: objective.sums(readout, *arrays)

        branches = [branch(objective) for objective in self.objectives]
        return self._at(step, branches, features_BxLxD, batch, key)
