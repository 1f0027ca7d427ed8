"""Every method with every kernel: it samples, or says in a sentence why not."""

import jax.numpy as jnp
import numpy as np
import pytest
from toy_samplers import sample, suits
from toys import MASK, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import METHODS, Controls, Sampler, make_method

pytestmark = pytest.mark.usefixtures("quick_compile")

FORBIDDEN = np.isin(np.arange(V), [0, 1, MASK])


def pairs():
    """(kernel, method): all that do not suit one another; of the others the last kernel of every method. That each
    samples from its first kernel, and ancestral steps from every kernel, test_samplers_methods.py shows."""
    for method in METHODS:
        fit = [name for name in KERNELS if suits(method, name)]
        yield from ((name, method) for name in KERNELS if name in fit[1:][-1:] or name not in fit)


@pytest.mark.parametrize(("name", "method"), list(pairs()))
def test_every_method_samples_from_a_kernel_or_says_why_not(name, method):
    if not suits(method, name):
        with pytest.raises(UserError, match=r"(need|takes).* kernels? .*'absorbing'|kernel 'absorbing'"):
            Sampler(make_method(method), TOYS[name].build(), make_posterior())
        return
    options = {"corrections": 2} if method == "gidd_correct" else {}
    controls = Controls(forbidden_V=jnp.asarray(FORBIDDEN))
    text, record = sample(name, method, (3, 4), steps=3, options=options, controls=controls, recorded=2)
    assert text.shape == (3, 4) and text.dtype == np.int32
    assert not FORBIDDEN[text].any()
    assert record.tokens.shape == (3 + options.get("corrections", 0), 2, 4)
    assert np.isfinite(record.confidence).all()
