"""Arrays of a wrong shape or dtype are told before anything is sampled."""

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_samplers import INDEPENDENT
from toys import TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Network, Sampler, make_method, make_plan, sample_autoregressive

KERNEL = TOYS["absorbing"].build()
PLAN = make_plan(KERNEL, 2, 1, 4, 1e-3)
GIVEN, NOTHING = np.zeros((3, 4), np.int32), np.zeros((3, 4), bool)
WRONG = [
    ({"given_BxL": GIVEN[0]}, r"given_BxL is int32 \[4\]: it must be \[B, L\]"),
    ({"given_BxL": GIVEN * 1.0}, "given_BxL is float.*its dtype must be integer"),
    ({"is_given_BxL": NOTHING[:1]}, r"is_given_BxL is bool \[1, 4\]: it must be \[B, L\] like given_BxL"),
    ({"is_given_BxL": GIVEN}, "is_given_BxL is int32.*its dtype must be bool"),
    ({"initial_BxL": GIVEN[:, :3]}, r"initial_BxL is int32 \[3, 3\]"),
    ({"initial_BxL": GIVEN * 1.0}, "initial_BxL is float.*integer"),
    ({"lengths_B": np.array([4])}, r"lengths_B is int\d+ \[1\]: it must be \[B\], a length for each row"),
    ({"plan": PLAN._replace(s=PLAN.s[:1])}, r"plan.s is float32 \[1\]: it must be \[N\]"),
    ({"plan": make_plan(KERNEL, 2, 1, 8, 1e-3)}, "the plan is for 8 positions and given_BxL has 4"),
    (
        {"network": Network(INDEPENDENT.features, lambda features: jnp.zeros((*features.shape, V + 1)))},
        rf"network.logits gives is float32 \[3, 1, {V + 1}\].*\[3, 1, {V}\]",
    ),
]


@pytest.mark.parametrize(("changed", "told"), WRONG, ids=[" ".join(changed) + told[-9:] for changed, told in WRONG])
def test_what_the_sampler_cannot_read_is_told(changed, told):
    arguments = {"network": INDEPENDENT, "given_BxL": GIVEN, "is_given_BxL": NOTHING, "plan": PLAN, **changed}
    with pytest.raises(UserError, match=told):
        Sampler(make_method("ancestral"), KERNEL, make_posterior()).sample(toys.key(0), **arguments)


@pytest.mark.parametrize(("given", "is_given"), [(GIVEN[0], NOTHING[0]), (GIVEN, GIVEN), (GIVEN, NOTHING[:, :2])])
def test_what_the_chain_rule_cannot_read_is_told(given, is_given):
    with pytest.raises(UserError, match="given_BxL is"):
        sample_autoregressive(toys.key(0), None, None, None, 0, given, is_given, None)
