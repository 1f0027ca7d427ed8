"""The kernels by name. To add one: write a function that returns a `Kernel` and list it in KERNELS.

Every builder takes `table` (the NeighbourTable of the vocabulary, or None when the run has none), `vocab_size`,
`mask_id` and its own options as keyword arguments.
"""

import inspect

from semdlm_jax.errors import UserError, choose, nearest
from semdlm_jax.kernels import schedules
from semdlm_jax.kernels.family import Kernel
from semdlm_jax.kernels.neighbours import NeighbourTable
from semdlm_jax.kernels.prior import GlobalPrior


def absorbing(*, vocab_size, mask_id, table=None):
    """Tokens become MASK (Eq. 5; D3PM-mask, MDLM)."""
    del table
    return Kernel(
        NeighbourTable.empty(vocab_size), GlobalPrior.point(vocab_size, mask_id), schedules.Linear(), mask_id=mask_id
    )


def uniform(*, vocab_size, mask_id, table=None):
    """Tokens become any token of the vocabulary with equal chance (Eq. 6; D3PM-uniform, UDLM)."""
    del table, mask_id
    return Kernel(NeighbourTable.empty(vocab_size), GlobalPrior.uniform(vocab_size), schedules.Linear())


def semdlm_plus(*, vocab_size, mask_id, table, gamma=1.0):
    """Tokens drift to their k_t nearest neighbours and jump anywhere, alpha = 1 - t, beta = t^2 (Eq. 22)."""
    del mask_id
    schedule = schedules.SemanticThenGlobal(_required(table).k_max, gamma)
    return Kernel(table, GlobalPrior.uniform(vocab_size), schedule)


def semdlm_plus_practical(
    *, vocab_size, mask_id, table, gamma=1.0, alpha_min=0.0, alpha_power=1.0, beta_max=1.0, beta_power=2.0
):
    """SemDLM+ with the practical schedule of Eq. 117-118."""
    del mask_id
    schedule = schedules.Practical(_required(table).k_max, gamma, alpha_min, alpha_power, beta_max, beta_power)
    return Kernel(table, GlobalPrior.uniform(vocab_size), schedule)


def _required(table):
    if table is None:
        raise UserError(
            "this kernel needs a neighbour table: build one with python -m semdlm_jax.semantics.build --config=…"
        )
    return table


KERNELS = {
    "absorbing": absorbing,
    "uniform": uniform,
    "semdlm_plus": semdlm_plus,
    "semdlm_plus_practical": semdlm_plus_practical,
}


def make_kernel(name, *, vocab_size, mask_id, table=None, **options):
    """Builds the named kernel. UserError for an unknown name or option."""
    build = choose("kernel", name, KERNELS)
    known = set(inspect.signature(build).parameters) - {"vocab_size", "mask_id", "table"}
    for option in options:
        if option not in known:
            raise UserError(f"kernel {name!r} has no option {option!r}: {nearest(option, known or {'none'})}")
    if table is not None and table.vocab_size != vocab_size:
        raise UserError(f"the neighbour table is of {table.vocab_size} tokens but the vocabulary has {vocab_size}")
    return build(vocab_size=vocab_size, mask_id=mask_id, table=table, **options)
