"""The reverse process: one scan over a plan of steps, the same for every method."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.objectives import Posterior
from semdlm_jax.objectives.chunking import divisor, join_positions, split_positions
from semdlm_jax.samplers.categorical import draw, truncate
from semdlm_jax.samplers.controls import Controls
from semdlm_jax.samplers.methods import Ancestral, Method, Proposal, StepContext
from semdlm_jax.samplers.settings import check_settings
from semdlm_jax.samplers.time_grid import Plan

# Logits alive at once are kept to about so many numbers, a few positions at a time. On a CPU the cache profits. An
# accelerator has more to do between two launches with more, but no more than a share of all: there memory counts.
CPU_NUMBERS, ACCELERATOR_NUMBERS, ACCELERATOR_SHARE = 2**23, 2**26, 4


class Network(NamedTuple):
    """features: (tokens [B, L], t [B], lengths [B]) -> [B, L, ...]. logits: those of some positions -> [..., V]."""

    features: object
    logits: object


class Trajectory(NamedTuple):
    """What `sample` says of the first rows R. initial: [R, L] int32, before the first of N evaluations, a corrector's
    not counted. tokens: [N, R, L] int32, after each. confidence: [N, R, L], of what was drawn. frozen: [N, R, L] bool,
    held back by the method."""

    initial: jax.Array
    tokens: jax.Array
    confidence: jax.Array
    frozen: jax.Array


@dataclasses.dataclass(frozen=True)
class Sampler:
    """The kernel and posterior are those of the trained model.

    corrector_steps: after every step, so many network evaluations more, each redrawing a position with chance
    corrector_strength from q_s(. | x~_0): leaves q_s as it is where the network is exact and one position moves at a
    time, and repairs it where it is not.
    """

    method: Method
    kernel: KernelBase
    posterior: Posterior
    corrector_steps: int = 0
    corrector_strength: float = 0.1

    def __post_init__(self):
        self.method.check(self.kernel)
        check_settings(corrector_steps=self.corrector_steps, corrector_strength=self.corrector_strength)

    def sample(
        self,
        key,
        network: Network,
        given_BxL,
        is_given_BxL,
        plan: Plan,
        controls: Controls = Controls(),
        recorded=0,
        initial_BxL=None,
        lengths_B=None,
    ):
        """(text tokens [B, L] int32, Trajectory of the first `recorded` rows). Pure: jit it; all arrays may be traced.

        given_BxL, is_given_BxL: tokens that are never changed, and where they stand. initial_BxL: noisy tokens at the
        plan's first time; the prior's when None. lengths_B: what stands behind is padding, which must be given: the
        network does not see it, and the penalty does not count it.
        """
        if not self.method.clean_drafts and controls.truncates:
            raise UserError("top_k and top_p truncate p(x0 | x_t), which the sedd samplers do not draw from")
        prior_key, scan_key, correct_key = jax.random.split(key, 3)
        if initial_BxL is None:
            initial_BxL = self.kernel.sample_prior(prior_key, given_BxL.shape)
        x_BxL = jnp.where(is_given_BxL, given_BxL, initial_BxL)
        position = jnp.arange(given_BxL.shape[1])
        whole_B = jnp.full(given_BxL.shape[:1], given_BxL.shape[1]) if lengths_B is None else lengths_B

        def scan_body(carry, inputs):
            xt_BxL, state = carry
            key, t, s, remask, start, stop = inputs
            draw_key, step_key, corrector_key = jax.random.split(key, 3)
            active = (position >= start) & (position < stop) & ~is_given_BxL
            ends_B = jnp.minimum(whole_B, stop)
            proposal = self._propose(draw_key, network, xt_BxL, t, s, ends_B, controls, self.method)
            # A stride's last step leaves the draft as it is; its s = 0 would be below every rate's range.
            earlier = jnp.where(s > 0, s, t / 2)
            context = StepContext(t, earlier, remask, active)
            taken = self.method.step(self.kernel, step_key, xt_BxL, proposal, context, state)
            xs_BxL = jnp.where(active, jnp.where(s > 0, taken.tokens, proposal.draft), xt_BxL)
            moves = active & (s > 0)
            xs_BxL = self._run_corrector(corrector_key, network, xs_BxL, earlier, ends_B, controls, moves)
            frozen = taken.frozen & moves
            return (xs_BxL, taken.state), (xs_BxL[:recorded], proposal.confidence[:recorded], frozen[:recorded])

        keys = jax.random.split(scan_key, plan.t.shape[0])
        first = (x_BxL, self.method.init(x_BxL))
        (text_BxL, _), trajectory = jax.lax.scan(scan_body, first, (keys, *(jnp.asarray(x) for x in plan)))
        if self.method.corrections:
            text_BxL, more = self._correct(correct_key, network, text_BxL, whole_B, ~is_given_BxL, controls, recorded)
            trajectory = jax.tree.map(lambda *parts: jnp.concatenate(parts), trajectory, more)
        return text_BxL, Trajectory(x_BxL[:recorded], *trajectory)

    def _run_corrector(self, key, network, xs_BxL, s, ends_B, controls, active):
        """The corrector: `corrector_steps` redraws at time s."""

        def once(xs_BxL, key):
            draw_key, coin_key, noise_key = jax.random.split(key, 3)
            proposal = self._propose(draw_key, network, xs_BxL, s, s, ends_B, controls, Ancestral())
            redraws = jax.random.uniform(coin_key, xs_BxL.shape) < self.corrector_strength
            fresh = self.kernel.corrupt(noise_key, proposal.draft, jnp.broadcast_to(s, xs_BxL.shape))
            return jnp.where(redraws & active, fresh, xs_BxL), None

        if not self.corrector_steps:
            return xs_BxL
        return jax.lax.scan(once, xs_BxL, jax.random.split(key, self.corrector_steps))[0]

    def _correct(self, key, network, text_BxL, ends_B, active, controls, recorded):
        """The method's corrections of finished text."""
        method, t = self.method, jnp.float32(self.method.correction_time)
        sharper = method.correction_controls(controls)

        def once(carry, key):
            text_BxL, *progress = carry
            proposal = self._propose(key, network, text_BxL, t, t, ends_B, sharper, _XTheta())
            corrected, progress = method.correct(text_BxL, proposal, active, progress)
            rows = corrected[:recorded]
            return (corrected, *progress), (rows, proposal.confidence[:recorded], jnp.zeros(rows.shape, bool))

        none = jnp.full(text_BxL.shape[:1], -1.0)
        first = (text_BxL, none, jnp.zeros(none.shape, jnp.int32))
        (text_BxL, *_), trajectory = jax.lax.scan(once, first, jax.random.split(key, method.corrections))
        return text_BxL, trajectory

    def _propose(self, key, network, xt_BxL, t, s, ends_B, controls, method):
        """One network evaluation that sees positions before ends_B, and a draw at every position; logits of some
        positions at a time."""
        batch, length = xt_BxL.shape
        features = network.features(xt_BxL, jnp.full((batch,), t), ends_B)
        penalty = controls.penalty
        visible = jnp.arange(length) < ends_B[:, None]
        carry = None if penalty is None else penalty.begin(xt_BxL, visible)

        def propose_chunk(carry, inputs):
            features, xt, start = inputs
            logits = network.logits(features)
            if penalty is not None:
                carry, logits = penalty.apply(carry, logits, xt, start)
            # One time for all: what depends on it alone is computed once, and not at every position.
            times = jnp.reshape(t, (1, 1)), jnp.reshape(s, (1, 1))
            logits = controls.sharpen(logits)
            if not method.clean_drafts:
                # Only noise brings forbidden ids, and the last step takes them away.
                logits = controls.forbid(logits)
            weights = method.log_weights(self.kernel, self.posterior, logits, xt, *times)
            if method.clean_drafts:
                weights = controls.forbid(weights)
            else:
                weights = jnp.where(s == 0, controls.forbid(weights), weights)
            kept = truncate(weights, controls.top_k, controls.top_p)
            drafts, total = draw(jax.random.fold_in(key, start), kept, greedy=controls.greedy(s))
            if controls.truncates:
                total = jax.nn.logsumexp(weights, axis=-1)
            picked = jnp.take_along_axis(weights, jnp.stack([drafts, xt], axis=-1), axis=-1)
            return carry, Proposal(drafts, *jnp.moveaxis(jnp.exp(picked - total[..., None]), -1, 0))

        return _by_positions(propose_chunk, carry, (features, xt_BxL), self.kernel.vocab_size)


class _XTheta(Ancestral):
    """Draws from p(x0 | the other tokens)."""

    def log_weights(self, kernel, posterior, logits, xt, t, s):
        return posterior.x_theta(kernel, logits, xt, t)


def positions_at_once(batch, length, vocab_size, backend):
    """How many of the L positions have their logits alive at once: a divisor of L."""
    numbers = CPU_NUMBERS
    if backend != "cpu":
        numbers = max(numbers, min(ACCELERATOR_NUMBERS, batch * length * vocab_size // ACCELERATOR_SHARE))
    most = max(numbers // (batch * vocab_size), 1)
    return divisor(length, most)


def _by_positions(function, carry, arrays, vocab_size):
    """function(carry, (*arrays [B, C, ...], first position)) -> (carry, pytree of [B, C, ...]), over all positions."""
    batch, length = arrays[-1].shape
    chunk = positions_at_once(batch, length, vocab_size, jax.default_backend())
    if chunk == length:
        return function(carry, (*arrays, 0))[1]
    chunks = [split_positions(x, chunk) for x in arrays]
    _, out = jax.lax.scan(function, carry, (*chunks, jnp.arange(0, length, chunk)))
    return jax.tree.map(join_positions, out)
