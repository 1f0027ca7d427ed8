"""Checks of the arrays that a sampler is given, made when it is traced: a compiled program does not repeat them."""

import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.shapes import check_shape


def check_given(given_BxL, is_given_BxL):
    """UserError unless these are tokens [B, L], and bools of the same shape."""
    check_shape("given_BxL", given_BxL, (None, None), "[B, L]", jnp.integer)
    check_shape("is_given_BxL", is_given_BxL, np.shape(given_BxL), "[B, L] like given_BxL", jnp.bool_)


def check_layout(given_BxL, is_given_BxL, initial_BxL, lengths_B, plan):
    """UserError for a shape or a dtype that `Sampler.sample` cannot read."""
    check_given(given_BxL, is_given_BxL)
    batch, length = np.shape(given_BxL)
    if initial_BxL is not None:
        check_shape("initial_BxL", initial_BxL, (batch, length), "[B, L] like given_BxL", jnp.integer)
    if lengths_B is not None:
        check_shape("lengths_B", lengths_B, (batch,), "[B], a length for each row of given_BxL", jnp.integer)
    for name, values in plan._asdict().items():
        check_shape(f"plan.{name}", values, np.shape(plan.t)[:1], "[N], an entry for each network evaluation")
    if isinstance(plan.stop, np.ndarray) and plan.stop.max(initial=0) > length:
        raise UserError(
            f"the plan is for {plan.stop.max()} positions and given_BxL has {length}: make one for {length}"
        )
