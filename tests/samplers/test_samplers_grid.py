"""Every method with every kernel: it samples, or says in a sentence why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_samplers import INDEPENDENT, plan_of, suits
from toys import MASK, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import METHODS, Controls, Sampler, make_method

FORBIDDEN = np.isin(np.arange(V), [0, 1, MASK])


def pairs():
    """(kernel, method): all that do not suit one another; of the others every kernel with ancestral steps, and every
    method with two kernels."""
    for method in METHODS:
        fit = [name for name in KERNELS if suits(method, name)]
        sampled = fit if method == "ancestral" else {*fit[:1], *fit[-1:]}
        yield from ((name, method) for name in KERNELS if name in sampled or name not in fit)


@pytest.mark.parametrize(("name", "method"), list(pairs()))
def test_every_method_samples_from_a_kernel_or_says_why_not(name, method):
    if not suits(method, name):
        with pytest.raises(UserError, match=r"(need|takes).* kernels? .*'absorbing'|kernel 'absorbing'"):
            Sampler(make_method(method), TOYS[name].build(), make_posterior())
        return
    options = {"corrections": 2} if method == "gidd_correct" else {}
    controls = Controls(forbidden_V=jnp.asarray(FORBIDDEN))
    with jax.disable_jit():
        text, record = tiny(name, make_method(method, **options), controls)
    assert text.shape == (3, 4) and text.dtype == jnp.int32
    assert not FORBIDDEN[np.asarray(text)].any()
    assert record.tokens.shape == (3 + options.get("corrections", 0), 2, 4)
    assert np.isfinite(record.confidence).all()


def tiny(name, method, controls):
    kernel = TOYS[name].build()
    nothing = jnp.zeros((3, 4), jnp.int32)
    sampler, plan = Sampler(method, kernel, make_posterior()), plan_of(kernel, method, 3, 4)
    return sampler.sample(toys.key(1), INDEPENDENT, nothing, nothing > 0, plan, controls, recorded=2)
