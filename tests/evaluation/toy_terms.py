"""Made-up terms and texts of the likelihood's tests."""

import jax.numpy as jnp
import numpy as np
from toys import LOG_P_DATA, P_DATA, V

from semdlm_jax.objectives import SequenceTerms

ENDS = {"t_min": 1e-3, "t_max": 1 - 1e-5}
PARAMS = jnp.asarray(np.maximum(LOG_P_DATA, -1e30), jnp.float32)


class Prior:
    """A network that knows the law of the text; under `bayes` that is the exact posterior."""

    def features(self, params, tokens, t):
        assert t.shape == tokens.shape[:1]
        return jnp.zeros((*tokens.shape, 1))

    def logits(self, params, features):
        return jnp.broadcast_to(params, (*features.shape[:-1], V))


def one_draw(terms):
    """[B] of each term as summarize takes them: [1, B]."""
    return SequenceTerms(*(np.asarray(x).reshape(1, -1) for x in terms))


def texts(rows, length):
    """(tokens, mask): texts of every length, the last row padding alone."""
    rng = np.random.default_rng(6)
    mask = np.arange(length) < np.append(rng.integers(1, length + 1, rows - 1), 0)[:, None]
    return rng.choice(V, (rows, length), p=P_DATA), mask
