"""A kernel of one's own that is a Markov chain: a token is two digits, and each is drawn anew on its own."""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelSpec, MarkovKernel
from semdlm_jax.kernels.schedules import Schedule
from semdlm_jax.options import number
from semdlm_jax.plugins import field


@dataclasses.dataclass(frozen=True)
class TwoDigits(KernelSpec):
    """Tokens change their row or their column in a table of all tokens."""

    columns: int = field(number(4, "[1, 1000000]", "of the table of tokens"))

    def build(self, vocabulary):
        if vocabulary.size % self.columns:
            raise UserError(
                f"{vocabulary.size} tokens do not fill {self.columns} columns: give kernel.columns a divisor"
            )
        return TwoDigitsKernel(vocabulary.size, self.columns, self.schedule)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoDigitsKernel(MarkovKernel):
    """q_t is a product of chances, one for each digit: a 1[same] + (1 - a) / number of its values, a = alpha(t)."""

    vocab_size: int = dataclasses.field(metadata={"static": True})
    columns: int = dataclasses.field(metadata={"static": True})
    schedule: Schedule = dataclasses.field(metadata={"static": True})
    mask_id = None

    def _parts(self, y, x, kept, drawn):
        """Chances of y from x when both digits, the column alone, the row alone and none are drawn. kept, drawn: the
        chances of one digit."""
        same_column, same_row = y % self.columns == x % self.columns, y // self.columns == x // self.columns
        share = drawn / self.vocab_size
        column, row = (
            kept * share * self.vocab_size / self.columns * same_row,
            kept * share * self.columns * same_column,
        )
        return drawn * share, column, row, kept**2 * (y == x)

    # The marginals, and how to draw from them.

    def alpha(self, t):
        return self.schedule.alpha(t) ** 2

    def noise(self, t):
        return self.schedule.noise(t) * (1 + self.schedule.alpha(t))

    def noise_prob(self, y, x0, t):
        return sum(self._parts(y, x0, self.schedule.alpha(t), self.schedule.noise(t))[:3])

    def noise_probs(self, x0, t):
        return self.noise_prob(jnp.arange(self.vocab_size), x0[..., None], t[..., None])

    def noise_likelihoods(self, xt, t):
        return self.noise_probs(xt, t)  # the chances are symmetric

    def noise_matvec(self, w, t):
        n, a = self.schedule.noise(t)[..., None, None], self.schedule.alpha(t)[..., None, None]
        table = w.reshape(*w.shape[:-1], -1, self.columns)
        of_rows, of_columns = table.mean(-1, keepdims=True), table.mean(-2, keepdims=True)
        carried = n * n * of_rows.mean(-2, keepdims=True) + a * n * (of_rows + of_columns)
        return carried.reshape(*carried.shape[:-2], -1)

    def sample_noise(self, key, x0, t):
        coin_key, token_key = jax.random.split(key)
        n, a = self.schedule.noise(t), self.schedule.alpha(t)
        u = jax.random.uniform(coin_key, x0.shape) * (2 * a + n)  # of: both, the column alone, the row alone
        token = jax.random.randint(token_key, x0.shape, 0, self.vocab_size)
        row, column = (x // self.columns * self.columns for x in (token, x0)), (x % self.columns for x in (token, x0))
        (new_row, old_row), (new_column, old_column) = row, column
        return jnp.where(u < n + a, new_column, old_column) + jnp.where((u < n) | (u >= n + a), new_row, old_row)

    def sample_prior(self, key, shape):
        return jax.random.randint(key, shape, 0, self.vocab_size)

    def prior_probs(self, t):
        return jnp.full(self.vocab_size, 1 / self.vocab_size)

    # The chain: `jump_rates` is enough for the bound, `transitions` makes steps of any size exact.

    def jump_rates(self, xt, t):
        y, rate = jnp.arange(self.vocab_size), -self.schedule.alpha_dot(t) / self.schedule.alpha(t)
        column, row = (
            y % self.columns == xt[..., None] % self.columns,
            y // self.columns == xt[..., None] // self.columns,
        )
        return rate[..., None] * (row / self.columns + column * self.columns / self.vocab_size)

    def transitions(self, xt, t, s):
        kept = (self.schedule.alpha(t) / self.schedule.alpha(s))[..., None]
        return sum(self._parts(xt[..., None], jnp.arange(self.vocab_size), kept, 1 - kept))
