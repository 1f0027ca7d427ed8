"""The reverse process: one scan over a plan of steps, the same for every method."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.shapes import check_shape
from semdlm_jax.objectives import Posterior
from semdlm_jax.objectives.chunking import divisor, join_positions, split_positions
from semdlm_jax.samplers.categorical import draw, truncate
from semdlm_jax.samplers.checks import check_layout
from semdlm_jax.samplers.controls import Controls
from semdlm_jax.samplers.methods import Ancestral, Method, Proposal, StepContext
from semdlm_jax.samplers.settings import check_settings
from semdlm_jax.samplers.time_grid import Plan

# Logits are computed for a few positions at a time, about so many numbers at once. On a CPU these fit the cache. On an
# accelerator more at once launch fewer programs; at most 1 / ACCELERATOR_SHARE of all logits are held, to save memory.
CPU_NUMBERS, ACCELERATOR_NUMBERS, ACCELERATOR_SHARE = 2**23, 2**26, 4


class Network(NamedTuple):
    """A trained network as two functions, so that logits can be computed for a few positions at a time.

    Args:
        features: (tokens [B, L], t [B], lengths [B]) -> features [B, L, ...]; where `reads_clean`, with a fourth
            argument [B, L] bool: the positions whose tokens are clean, because they were given or are finished.
        logits: features of some positions [B, C, ...] -> logits [B, C, V].
        reads_clean: whether `features` takes the fourth argument.
    """

    features: Callable[..., jax.Array]
    logits: Callable[[jax.Array], jax.Array]
    reads_clean: bool = False

    def read(self, tokens_BxL: jax.Array, t: jax.Array, seen: "Seen") -> jax.Array:
        """Features of tokens that share a time t."""
        t_B = jnp.full(tokens_BxL.shape[:1], t)
        return self.features(tokens_BxL, t_B, seen.ends_B, *([seen.clean_BxL] if self.reads_clean else []))


class Seen(NamedTuple):
    """What the network is told of the rows. ends_B: it sees the positions before. clean_BxL: bool, positions without
    noise."""

    ends_B: jax.Array
    clean_BxL: jax.Array


class Trajectory(NamedTuple):
    """The steps of the first R rows, over N network evaluations; those of a corrector are not counted.

    Args:
        initial: [R, L] int32, tokens before the first.
        tokens: [N, R, L] int32, tokens after each.
        confidence: [N, R, L], the probability of the token that was drawn.
        frozen: [N, R, L] bool, positions that the method did not let change.
    """

    initial: jax.Array
    tokens: jax.Array
    confidence: jax.Array
    frozen: jax.Array


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Samples text by a method from a trained model.

    Args:
        method: how a step is taken.
        kernel, posterior: those of the trained model.
        corrector_steps: network evaluations after every step. Each redraws positions from q_s(. | x~_0): this leaves
            q_s unchanged where the network is exact and one position moves at a time, and brings the sample nearer to
            it where the network is not.
        corrector_strength: the chance that one redraws a position.

    Raises:
        UserError: the method does not fit the kernel, or a number out of its range.
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
        """Samples text. Pure: jit it; all arrays may be traced.

        Args:
            key: a JAX random key.
            network: the trained network.
            given_BxL: int tokens that are kept where is_given_BxL, bool, is true: a prompt, or anything else.
            is_given_BxL: where.
            plan: times and strides, of `make_plan`.
            controls: temperature, truncation and penalty, of `make_controls`.
            recorded: the number of rows whose trajectory is kept.
            initial_BxL: noisy tokens at the plan's first time; None: drawn from the kernel's prior.
            lengths_B: of each row; positions from there on are padding, which must be given. The network does not see
                it, and the penalty does not count it.

        Returns:
            (tokens [B, L] int32, Trajectory of the first `recorded` rows).

        Raises:
            UserError: an array of a wrong shape or dtype, or controls that the method does not have.

        Example, with a network that finds all tokens of text equally likely:

            >>> import jax, jax.numpy as jnp
            >>> from semdlm_jax.kernels import Vocabulary, make_kernel
            >>> from semdlm_jax.objectives import make_posterior
            >>> from semdlm_jax.samplers import Network, Sampler, make_method, make_plan
            >>> kernel = make_kernel("absorbing", Vocabulary(size=5, mask_id=4))
            >>> network = Network(lambda tokens, t, lengths: tokens, lambda x: jnp.zeros((*x.shape, 5)))
            >>> plan = make_plan(kernel, steps=3, strides=1, length=6, t_min=1e-3)
            >>> prompt = jnp.array([[3, 3, 0, 0, 0, 0]])
            >>> sampler = Sampler(make_method("ancestral"), kernel, make_posterior("bayes"))
            >>> text, _ = sampler.sample(jax.random.key(0), network, prompt, prompt == 3, plan)
            >>> text.shape, text[0, :2].tolist(), bool((text < 4).all())
            ((1, 6), [3, 3], True)
        """
        check_layout(given_BxL, is_given_BxL, initial_BxL, lengths_B, plan)
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
            seen = Seen(jnp.minimum(whole_B, stop), is_given_BxL | (position < start))
            proposal = self._propose(draw_key, network, xt_BxL, t, s, seen, controls, self.method)
            # A stride's last step takes the draft as it is. The method never sees its s = 0, where rates are infinite.
            earlier = jnp.where(s > 0, s, t / 2)
            context = StepContext(t, earlier, remask, active)
            taken = self.method.step(self.kernel, step_key, xt_BxL, proposal, context, state)
            xs_BxL = jnp.where(active, jnp.where(s > 0, taken.tokens, proposal.draft), xt_BxL)
            moves = active & (s > 0)
            xs_BxL = self._run_corrector(corrector_key, network, xs_BxL, earlier, seen, controls, moves)
            frozen = taken.frozen & moves
            return (xs_BxL, taken.state), (xs_BxL[:recorded], proposal.confidence[:recorded], frozen[:recorded])

        keys = jax.random.split(scan_key, plan.t.shape[0])
        first = (x_BxL, self.method.init(x_BxL))
        (text_BxL, _), trajectory = jax.lax.scan(scan_body, first, (keys, *(jnp.asarray(x) for x in plan)))
        if self.method.corrections:
            seen = Seen(whole_B, is_given_BxL)  # what is finished may change again
            text_BxL, more = self._correct(correct_key, network, text_BxL, seen, ~is_given_BxL, controls, recorded)
            trajectory = jax.tree.map(lambda *parts: jnp.concatenate(parts), trajectory, more)
        return text_BxL, Trajectory(x_BxL[:recorded], *trajectory)

    def _run_corrector(self, key, network, xs_BxL, s, seen, controls, active):
        """The corrector: `corrector_steps` redraws at time s."""

        def once(xs_BxL, key):
            draw_key, coin_key, noise_key = jax.random.split(key, 3)
            proposal = self._propose(draw_key, network, xs_BxL, s, s, seen, controls, Ancestral())
            redraws = jax.random.uniform(coin_key, xs_BxL.shape) < self.corrector_strength
            fresh = self.kernel.corrupt(noise_key, proposal.draft, jnp.broadcast_to(s, xs_BxL.shape))
            return jnp.where(redraws & active, fresh, xs_BxL), None

        if not self.corrector_steps:
            return xs_BxL
        return jax.lax.scan(once, xs_BxL, jax.random.split(key, self.corrector_steps))[0]

    def _correct(self, key, network, text_BxL, seen, active, controls, recorded):
        """The method's corrections of finished text."""
        method, t = self.method, jnp.float32(self.method.correction_time)
        sharper = method.correction_controls(controls)

        def once(carry, key):
            text_BxL, *progress = carry
            proposal = self._propose(key, network, text_BxL, t, t, seen, sharper, _XTheta())
            corrected, progress = method.correct(text_BxL, proposal, active, progress)
            rows = corrected[:recorded]
            return (corrected, *progress), (rows, proposal.confidence[:recorded], jnp.zeros(rows.shape, bool))

        none = jnp.full(text_BxL.shape[:1], -1.0)
        first = (text_BxL, none, jnp.zeros(none.shape, jnp.int32))
        (text_BxL, *_), trajectory = jax.lax.scan(once, first, jax.random.split(key, method.corrections))
        return text_BxL, trajectory

    def _propose(self, key, network, xt_BxL, t, s, seen, controls, method):
        """One network evaluation, and a draw at every position."""
        features, penalty = network.read(xt_BxL, t, seen), controls.penalty
        visible = jnp.arange(xt_BxL.shape[1]) < seen.ends_B[:, None]
        carry = None if penalty is None else penalty.begin(xt_BxL, visible)

        def propose_chunk(carry, inputs):
            features, xt, start = inputs
            logits = network.logits(features)
            shape = *xt.shape, self.kernel.vocab_size
            check_shape("what network.logits gives", logits, shape, f"[B, positions, V], here {list(shape)}")
            if penalty is not None:
                carry, logits = penalty.apply(carry, logits, xt, start)
            # All positions share a time: shapes [1, 1], so that what depends on it alone is computed once.
            times = jnp.reshape(t, (1, 1)), jnp.reshape(s, (1, 1))
            logits = controls.sharpen(logits)
            if not method.clean_drafts:
                # Drafts are noisy tokens: only noise may produce forbidden ids, until the last step writes text.
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
            # A symbol of noise is no draft: its probability as text is 0.
            picked = jnp.take_along_axis(
                weights, jnp.stack([drafts, xt], axis=-1), axis=-1, mode="fill", fill_value=-jnp.inf
            )
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
