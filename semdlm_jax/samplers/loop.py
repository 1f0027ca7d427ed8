"""The reverse process: one scan over a plan of steps, the same for every sampler.

To add a sampler: a function (kernel, key, draft, xt, t, s) -> xs, elementwise in positions, and a line in SAMPLERS. The
draft is x~_0 ~ p_theta(. | x_t).
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import choose
from semdlm_jax.kernels import KernelBase, reverse_step
from semdlm_jax.objectives import Posterior
from semdlm_jax.samplers.draws import draw
from semdlm_jax.samplers.plan import Plan


def _ancestral(kernel, key, draft, xt, t, s):
    """Algorithm 2 with keep-or-resample: exact for any step size when the draft is."""
    return reverse_step(kernel, key, xt, draft, t, s)


SAMPLERS = {"ancestral": _ancestral}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """name: of SAMPLERS. The kernel and posterior are those of the trained model."""

    name: str
    kernel: KernelBase
    posterior: Posterior

    def __post_init__(self):
        choose("sampler", self.name, SAMPLERS)

    def sample(self, key, logits, given_BxL, is_given_BxL, plan: Plan, *, temperature=1.0, forbidden_V=None):
        """Text tokens [B, L] int32. Pure: jit it; temperature, key, given tokens and the plan's values may be traced.

        logits: function (tokens [B, L], t [B], lengths [B]) -> [B, L, V], the network. given_BxL, is_given_BxL: tokens
        that are never changed, and where they stand. forbidden_V: bool, ids that never appear in text. temperature:
        divides the network's logits, not the likelihood of x_t that `bayes` multiplies in: what the network believes of
        language is sharpened, what is known of the noise is not. 0 takes the most likely clean token.
        """
        prior_key, scan_key = jax.random.split(key)
        batch, length = given_BxL.shape
        prior_BxL = self.kernel.sample_prior(prior_key, given_BxL.shape)
        position = jnp.arange(length)
        step_sampler = SAMPLERS[self.name]
        greedy = jnp.asarray(temperature) == 0

        def step(xt_BxL, now):
            key, t, s, start, stop = now
            draft_key, step_key = jax.random.split(key)
            t_B = jnp.full((batch,), t)
            logits_BxLxV = logits(xt_BxL, t_B, jnp.full((batch,), stop)) / jnp.where(greedy, 1.0, temperature)
            log_posterior = self.posterior.log_probs(self.kernel, logits_BxLxV, xt_BxL, t_B[:, None])
            draft_BxL = draw(draft_key, log_posterior, greedy=greedy, forbidden=forbidden_V)
            # A stride's last step leaves the draft as it is; its s = 0 would be below every rate's range.
            xs_BxL = step_sampler(self.kernel, step_key, draft_BxL, xt_BxL, t, jnp.where(s > 0, s, t / 2))
            xs_BxL = jnp.where(s > 0, xs_BxL, draft_BxL)
            active = (position >= start) & (position < stop) & ~is_given_BxL
            return jnp.where(active, xs_BxL, xt_BxL), None

        keys = jax.random.split(scan_key, plan.t.shape[0])
        x_BxL = jnp.where(is_given_BxL, given_BxL, prior_BxL)
        text_BxL, _ = jax.lax.scan(step, x_BxL, (keys, *(jnp.asarray(x) for x in plan)))
        return text_BxL
