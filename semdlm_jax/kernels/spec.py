"""The base of the kernels that a configuration selects by name."""

import abc
import dataclasses

from semdlm_jax.kernels.protocol import KernelBase
from semdlm_jax.kernels.schedules import SCHEDULES, Linear, Schedule
from semdlm_jax.kernels.vocabulary import Vocabulary
from semdlm_jax.plugins import Plugin, part


@dataclasses.dataclass(frozen=True)
class KernelSpec(Plugin, abc.ABC):
    """The options of a kernel, from which `build` makes it for a vocabulary.

    needs_neighbors: whether it reads the neighbor table or the embeddings that come with it.
    needs_partitions: whether it reads the partitions of the vocabulary.
    """

    RETURNS = {"build": lambda found, vocabulary: _kernel_problem(found)}
    schedule: Schedule = part(SCHEDULES, Linear())

    needs_neighbors = False
    needs_partitions = False

    def num_symbols(self, vocabulary: Vocabulary) -> int:
        """How many states its kernel has beyond the V tokens."""
        return 0

    @abc.abstractmethod
    def build(self, vocabulary: Vocabulary) -> KernelBase:
        """The kernel. UserError when the vocabulary lacks what it needs."""


def _kernel_problem(found):
    """What is wrong with the result of a user's own `build`; '' for a kernel."""
    return "" if isinstance(found, KernelBase) else f"a {type(found).__name__}: return a Kernel, or another KernelBase"
