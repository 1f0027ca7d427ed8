"""The reverse process: one scan over a plan of steps, the same for every method but those in continuous time (`exact`).

A step needs the network's logits only where it may change a token. Where the method knows this beforehand
(`Method.may_change`), coins fall first: logits, penalty and draws are computed for the positions that they hit, and the
network is not evaluated if they hit none. The law is the same. A trajectory that is recorded has the proposals of all
positions, and a sliding window of the penalty passes over all: then every step is a full one.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.objectives import Posterior
from semdlm_jax.samplers import exact
from semdlm_jax.samplers.checks import check_layout
from semdlm_jax.samplers.controls import Controls
from semdlm_jax.samplers.methods import Ancestral, Method, StepContext
from semdlm_jax.samplers.proposing import Network, Proposer, Seen, evaluations_of
from semdlm_jax.samplers.settings import check_settings
from semdlm_jax.samplers.time_grid import Plan


class Trajectory(NamedTuple):
    """The steps of the first R rows, over N network evaluations; those of a corrector are not counted.

    Args:
        initial: [R, L] int32, tokens before the first.
        tokens: [N, R, L] int32, tokens after each.
        confidence: [N, R, L], the probability of the token that was drawn; under `exact` of the last draft that
            changed a position, 0 before the first.
        frozen: [N, R, L] bool, positions that the method did not let change.
        evaluations: [], int32, of the network for the whole batch, a corrector's and corrections included: fewer than N
            where coins fall first and none asks, more under `exact`.
    """

    initial: jax.Array
    tokens: jax.Array
    confidence: jax.Array
    frozen: jax.Array
    evaluations: jax.Array


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
        if self.corrector_steps and self.method.continuous:
            raise UserError("the sampler exact has no steps that a corrector could follow: set corrector_steps to 0")

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
            (tokens [B, L] int32, Trajectory of the first `recorded` rows). Of one key, a text that is recorded is not
            that which is not, where coins fall first: their law is the same.

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
        whole_B = jnp.full(given_BxL.shape[:1], given_BxL.shape[1]) if lengths_B is None else lengths_B
        proposer = Proposer(network, self.kernel, self.posterior, controls)
        walk = exact.walk if self.method.continuous else self._walk
        text_BxL, trajectory, evaluations = walk(
            scan_key, self.method, proposer, x_BxL, is_given_BxL, whole_B, plan, recorded
        )
        if self.method.corrections:
            seen = Seen(whole_B, is_given_BxL)  # what is finished may change again
            text_BxL, more = self._correct(correct_key, proposer, text_BxL, seen, ~is_given_BxL, recorded)
            trajectory = jax.tree.map(lambda *parts: jnp.concatenate(parts), trajectory, more)
            evaluations = evaluations + self.method.corrections
        return text_BxL, Trajectory(x_BxL[:recorded], *trajectory, evaluations=evaluations)

    def _walk(self, scan_key, method, proposer, x_BxL, is_given_BxL, whole_B, plan, recorded):
        """As `exact.walk`, step by step."""
        position = jnp.arange(x_BxL.shape[1])
        coins_first = not recorded and proposer.can_choose

        def scan_body(carry, inputs):
            xt_BxL, state = carry
            key, t, s, remask, start, stop = inputs
            draw_key, step_key, corrector_key = jax.random.split(key, 3)
            active = (position >= start) & (position < stop) & ~is_given_BxL
            seen = Seen(jnp.minimum(whole_B, stop), is_given_BxL | (position < start))
            # A stride's last step takes the draft as it is. The method never sees its s = 0, where rates are infinite.
            earlier = jnp.where(s > 0, s, t / 2)
            context = StepContext(t, earlier, remask, active)
            chosen = method.chosen(self.kernel, step_key, xt_BxL, context, state) if coins_first else None
            if chosen is not None:
                chosen = jnp.where(s > 0, chosen, ~self.kernel.certain(xt_BxL)) & active
                context = context._replace(proposed=chosen)
            proposal = proposer.propose(draw_key, method, xt_BxL, t, s, seen, chosen)
            taken = method.step(self.kernel, step_key, xt_BxL, proposal, context, state)
            xs_BxL = jnp.where(active, jnp.where(s > 0, taken.tokens, proposal.draft), xt_BxL)
            moves = active & (s > 0)
            xs_BxL, more = self._run_corrector(corrector_key, proposer, xs_BxL, earlier, seen, moves)
            rows = xs_BxL[:recorded], proposal.confidence[:recorded], taken.frozen[:recorded] & moves[:recorded]
            return (xs_BxL, taken.state), (rows, evaluations_of(chosen) + more)

        keys = jax.random.split(scan_key, plan.t.shape[0])
        first = (x_BxL, method.init(x_BxL))
        (text_BxL, _), (rows, counts) = jax.lax.scan(scan_body, first, (keys, *(jnp.asarray(x) for x in plan)))
        return text_BxL, rows, jnp.sum(counts)

    def _run_corrector(self, key, proposer, xs_BxL, s, seen, active):
        """(tokens, evaluations of the network) of the corrector: `corrector_steps` redraws at time s."""

        def once(xs_BxL, key):
            draw_key, coin_key, noise_key = jax.random.split(key, 3)
            redraws = (jax.random.uniform(coin_key, xs_BxL.shape) < self.corrector_strength) & active
            chosen = redraws if proposer.can_choose else None
            proposal = proposer.propose(draw_key, Ancestral(), xs_BxL, s, s, seen, chosen)
            fresh = self.kernel.corrupt(noise_key, proposal.draft, jnp.broadcast_to(s, xs_BxL.shape))
            return jnp.where(redraws, fresh, xs_BxL), evaluations_of(chosen)

        if not self.corrector_steps:
            return xs_BxL, 0
        xs_BxL, counts = jax.lax.scan(once, xs_BxL, jax.random.split(key, self.corrector_steps))
        return xs_BxL, jnp.sum(counts)

    def _correct(self, key, proposer, text_BxL, seen, active, recorded):
        """The method's corrections of finished text."""
        method, t = self.method, jnp.float32(self.method.correction_time)
        sharper = dataclasses.replace(proposer, controls=method.correction_controls(proposer.controls))

        def once(carry, key):
            text_BxL, *progress = carry
            proposal = sharper.propose(key, _XTheta(), text_BxL, t, t, seen)
            corrected, progress = method.correct(text_BxL, proposal, active, progress)
            rows = corrected[:recorded]
            return (corrected, *progress), (rows, proposal.confidence[:recorded], jnp.zeros(rows.shape, bool))

        none = jnp.full(text_BxL.shape[:1], -1.0)
        first = (text_BxL, none, jnp.zeros(none.shape, jnp.int32))
        (text_BxL, *_), trajectory = jax.lax.scan(once, first, jax.random.split(key, method.corrections))
        return text_BxL, trajectory


class _XTheta(Ancestral):
    """Draws from p(x0 | the other tokens)."""

    def log_weights(self, kernel, posterior, logits, xt, t, s):
        return posterior.x_theta(kernel, logits, xt, t)
