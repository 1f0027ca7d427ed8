"""What the rest of the package asks of a kernel, and what follows from that for every kernel.

A kernel keeps a token with chance alpha_t and otherwise redraws it from noise:

    q_t(j | i) = alpha_t 1[j = i] + m_t(j | i),      sum over j of m_t = 1 - alpha_t

Noise may consist of tokens and of other states, such as symbols of blocks of tokens: their ids are V and up.

Shapes: tokens [...], times that broadcast against them: a number, or t[:, None] for tokens [B, L]. "Of every clean
token" adds an axis V; "of every state" adds an axis N, which is V for most kernels.
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.former import RenamedMethods
from semdlm_jax.kernels.numerics import derivative, safe_log
from semdlm_jax.kernels.shapes import TakesTimes, as_times, as_tokens, check_key, check_shape, misfit
from semdlm_jax.users_code import UsersCode

if TYPE_CHECKING:
    from semdlm_jax.kernels.reverse import Reverse

Array = jax.Array


def coin(key: Array, xt: Array) -> tuple[Array, Array]:
    """(uniform numbers of xt's shape, by which a step back decides what changes; a key for the rest of it)."""
    coin_key, rest = jax.random.split(key)
    return jax.random.uniform(coin_key, xt.shape), rest


def _tokens_problem(found, shape):
    """What is wrong with a method's result, unless it is tokens of this shape; else ''."""
    wrong = misfit(found, shape, jnp.integer)
    return f"{wrong}: return token ids, integers of shape {list(shape)}" if wrong else ""


def _bound_problem(found, xt):
    """What is wrong with the result of a user's own `leaving_bound`; '' for None or floats of the shape of xt."""
    wrong = found is not None and misfit(found, jnp.shape(xt), jnp.floating)
    return f"{wrong}: return floats of the shape of xt, here {list(jnp.shape(xt))}, or None" if wrong else ""


def _times_problem(found):
    """What is wrong with the result of a user's own `kinks`; '' for floats [M]."""
    wrong = misfit(found, jnp.shape(found)[:1] or (1,), jnp.floating)
    return f"{wrong}: return times in ascending order, floats [M]" if wrong else ""


class KernelBase(RenamedMethods, TakesTimes, UsersCode, abc.ABC):
    """A transition kernel: the methods a kernel must have are abstract, the others follow from them.

    Attributes:
        vocab_size: V.
        num_states: N, the states that a noisy token may have: V, and more where noise has states of its own.
        mask_id: a token that only noise produces and no clean text contains; None otherwise.
        jumps_only: whether every change is a jump to one and the same prior, as scores (SEDD) need it.
        closed_form: the name of an integrand in `objectives.closed_forms`, which needs no sum over the vocabulary; None
            where there is none.
        kept_weight: t -> GIDD's dynamic weight of kept tokens, shape of t; None unless noise is GIDD's mixture.
    """

    FORMER = {
        "redraw": "sample_noise",
        "noise_row": "noise_probs",
        "noise_column": "noise_likelihoods",
        "push_noise": "noise_matvec",
        "push_noise_at": "noise_matvec_at",
        "fresh_rate": "arrival_rate",
    }
    RETURNS = {
        "sample_noise": lambda found, key, x0, t: _tokens_problem(found, jnp.shape(x0)),
        "sample_prior": lambda found, key, shape: _tokens_problem(found, tuple(shape)),
        "leaving_bound": lambda found, xt, t, s=None: _bound_problem(found, xt),
        "kinks": lambda found: _times_problem(found),
    }
    vocab_size: int
    mask_id: int | None
    jumps_only: bool = False
    closed_form: str | None = None
    kept_weight: Callable[[jax.Array], jax.Array] | None = None

    # What a kernel defines.

    @abc.abstractmethod
    def alpha(self, t: Array) -> Array:
        """The chance that a token was kept; shape of t."""

    @abc.abstractmethod
    def noise(self, t: Array) -> Array:
        """1 - alpha, with its own relative accuracy; shape of t."""

    @abc.abstractmethod
    def noise_prob(self, y: Array, x0: Array, t: Array) -> Array:
        """m_t(y | x0)."""

    @abc.abstractmethod
    def sample_noise(self, key: Array, x0: Array, t: Array) -> Array:
        """Tokens from m_t(. | x0) / (1 - alpha_t): int32 of x0's shape."""

    @abc.abstractmethod
    def noise_probs(self, x0: Array, t: Array) -> Array:
        """m_t(y | x0) of every state y: [..., N]."""

    @abc.abstractmethod
    def noise_likelihoods(self, xt: Array, t: Array) -> Array:
        """m_t(xt | k) of every clean token k: [..., V]."""

    @abc.abstractmethod
    def noise_matvec(self, w: Array, t: Array) -> Array:
        """y -> sum_k w(k) m_t(y | k). w: [..., V] over clean tokens, t: [...]; returns [..., N]."""

    @abc.abstractmethod
    def reverse(self, xt: Array, t: Array, s: Array | None = None) -> "Reverse":
        """Where x_t came from, for every clean token: `reverse.Reverse`. Rates at t, or chances of a step to s < t."""

    @abc.abstractmethod
    def reverse_step(self, key: Array, xt: Array, x0: Array, t: Array, s: Array) -> Array:
        """Draws x_s ~ q(x_s | x_t, x0), exact for any step size s < t.

        Args:
            key: a JAX random key.
            xt, x0: noisy and clean tokens of one shape.
            t, s: numbers, or times as for `corrupt`.

        Returns:
            int32 tokens of xt's shape.
        """

    @abc.abstractmethod
    def reverse_leap(self, key: Array, xt: Array, x0: Array, t: Array, s: Array) -> Array:
        """As `reverse_step`, by tau-leaping: a token takes at most one jump back to another one, at the rates of t.
        These must be finite: t is `objectives.bound.T_NUMERIC_MAX` at the latest."""

    @abc.abstractmethod
    def arrival_rate(self, xt: Array, x0: Array, t: Array) -> Array:
        """h(xt | x0), shape of xt, in 1 / unit of t: the rate, back in time, at which x_t is found to have just arrived
        at its value."""

    @abc.abstractmethod
    def sample_prior(self, key: Array, shape: tuple[int, ...]) -> Array:
        """x_1: int32 tokens from the prior."""

    @abc.abstractmethod
    def prior_probs(self, t: Array) -> Array:
        """The prior of the bound when its latest time is t: [N] or [..., N]."""

    # What a kernel may know.

    def leaving_bound(self, xt: Array, t: Array, s: Array | None = None) -> Array | None:
        """The most that `reverse_step` from t to s changes x_t, over all clean tokens: a chance, shape of xt. Without
        s: of the rate at which `reverse_leap` leaves x_t. None: nothing is known.

        Samplers ask the network only for tokens whose `coin` is below it, so `reverse_step` and `reverse_leap` must
        change a token only if its coin is below the chance given its clean token.
        """
        return None

    def kinks(self) -> Array:
        """[M], times in ascending order at which the rates of `leaving_bound` jump, or above which they grow without
        limit. Between such times they change smoothly: by a factor that is near 1 while t, 1 - t and the distance to
        the next earlier one do."""
        return jnp.zeros(0)

    def certain(self, xt: Array) -> Array:
        """Whether x_t can come from no clean token but itself: bool of its shape."""
        return (xt != self.mask_id) if self.only_masks else jnp.zeros(xt.shape, bool)

    # What follows from that.

    @property
    def num_states(self) -> int:
        return self.vocab_size

    def members(self, state: int) -> np.ndarray:
        """The clean tokens that a state stands for: a token for itself, a symbol for a block."""
        return np.array([state])

    @property
    def only_masks(self) -> bool:
        """Whether noise is the mask alone, so that every other token is certain. Of a kernel that only jumps and has a
        mask this is taken for granted: one of one's own with other jumps, too, says False."""
        return self.mask_id is not None and self.jumps_only

    def alpha_dot(self, t: Array) -> Array:
        """d alpha / dt; shape of t."""
        return derivative(self.alpha, t)[1]

    def prob(self, xt: Array, x0: Array, t: Array) -> Array:
        """q_t(xt | x0)."""
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t = as_times(t, "x0", x0 if x0.ndim >= xt.ndim else xt, more=True)
        return jnp.where(xt == x0, self.alpha(t), 0) + self.noise_prob(xt, x0, t)

    def log_prob(self, xt: Array, x0: Array, t: Array) -> Array:
        """log q_t(xt | x0); LOG_ZERO where impossible."""
        return safe_log(self.prob(xt, x0, t))

    def corrupt(self, key: Array, x0: Array, t: Array) -> Array:
        """Draws x_t ~ q_t(. | x0): each token is kept with chance alpha_t, and else redrawn from noise.

        Args:
            key: a JAX random key.
            x0: clean tokens, of any shape.
            t: a number, or times that broadcast against x0 and have as many axes: t[:, None] for tokens [B, L].

        Returns:
            Noisy tokens, int32 of x0's shape.

        Raises:
            UserError: x0 holds no token ids, t is outside [0, 1], key is no key, or the shape of t leaves open which
                axis it belongs to. Under jit, where values are not known, they are not checked.

        Example: at t = 1 an absorbing kernel leaves masks alone.

            >>> import jax, jax.numpy as jnp
            >>> from semdlm_jax.kernels import Vocabulary, make_kernel
            >>> kernel = make_kernel("absorbing", Vocabulary(size=5, mask_id=4))
            >>> kernel.corrupt(jax.random.key(0), jnp.array([[0, 1, 2], [3, 2, 1]]), jnp.array([[0.0], [1.0]]))
            Array([[0, 1, 2],
                   [4, 4, 4]], dtype=int32)
        """
        check_key(key)
        x0 = as_tokens("x0", x0, self.vocab_size)
        t = as_times(t, "x0", x0)
        coin_key, noise_key = jax.random.split(key)
        noise = self.noise(t)
        # Noise takes the low end of the unit interval, where float32 uniforms resolve small probabilities.
        moves = jax.random.uniform(coin_key, x0.shape, noise.dtype) < noise
        return jnp.where(moves, self.sample_noise(noise_key, x0, t), x0)

    def push_forward(self, w: Array, t: Array) -> Array:
        """(w K_t)(y) = sum_k w(k) q_t(y | k). w: [..., V] over clean tokens, t: [...]; returns [..., N]."""
        check_shape("w", w, (*np.shape(w)[:-1], self.vocab_size), f"[..., {self.vocab_size}], over all clean tokens")
        t, w = as_times(t, "w", w, -1, more=True), jnp.asarray(w, jnp.result_type(w, float))  # counts are weights, too
        return self._of_states(w * self.alpha(t)[..., None]) + self.noise_matvec(w, t)

    def noise_matvec_at(self, w: Array, y: Array, t: Array) -> Array:
        """`noise_matvec` at the tokens y [..., S] alone: [..., S]. w: [..., V], t: [...]."""

        def at(y):
            return jnp.sum(w * self.noise_likelihoods(y, t), axis=-1)

        return jnp.moveaxis(jax.lax.map(at, jnp.moveaxis(y, -1, 0)), 0, -1)

    def likelihoods(self, xt: Array, t: Array) -> Array:
        """q_t(xt | k) of every clean token k: [..., V] (Eq. 20's forward likelihood)."""
        xt = as_tokens("xt", xt, self.num_states)
        t = as_times(t, "xt", xt, more=True)
        return self.noise_likelihoods(xt, t) + jnp.where(self._is(xt), self.alpha(t)[..., None], 0)

    def add_log_likelihoods(self, logits: Array, xt: Array, t: Array) -> Array:
        """logits + log q_t(xt | k): [..., V]."""
        return logits + safe_log(self.likelihoods(xt, t))

    def log_evidence(self, logits: Array, xt: Array, t: Array) -> Array:
        """log sum_k e^logits(k) q_t(xt | k): shape of xt."""
        return jax.nn.logsumexp(self.add_log_likelihoods(logits, xt, t), axis=-1)

    def _is(self, tokens):
        """[..., V] bool: one-hot rows."""
        return tokens[..., None] == jnp.arange(self.vocab_size)

    def _is_state(self, states):
        """[..., N] bool: one-hot rows."""
        return states[..., None] == jnp.arange(self.num_states)

    def _of_states(self, values):
        """values [..., V] of tokens with zeros for all other states: [..., N]."""
        more = self.num_states - self.vocab_size
        return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)]) if more else values
