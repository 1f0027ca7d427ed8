"""When the events of nested kernels happen: the chances and rates of their levels over time.

Level 0 is the clean token; an event of level d = 1, ..., D replaces a token by what stands for its block of level d.
Lists of arrays: `weights` by level; `chances` and `rates` by the level of the state and by that of the event. The
arrays have the shape of the times.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import ramp, ratio
from semdlm_jax.kernels.schedules import Schedule, fall, power
from semdlm_jax.kernels.shapes import TakesTimes

Array = jax.Array
Table = list[list[Array]]
# Of a time, where all that happens at rate 1 has happened: exp(-40) is below what any float adds to 1.
LATEST = 40.0
# Powers nearer to each other than this would leave the chance of an event between them few digits in float32.
LEAST_RISE = 1.01
SLOWEST, FASTEST = 1e-3, 1e3


class LevelProcess(TakesTimes, abc.ABC):
    """A process of levels: frozen dataclasses, whose fields can be hashed.

    Attributes:
        schedule: of the noise level n.
    """

    schedule: Schedule

    @property
    @abc.abstractmethod
    def levels(self) -> int:
        """D."""

    @abc.abstractmethod
    def kept(self, t: Array) -> tuple[Array, Array]:
        """(a_0, 1 - a_0), each with its own relative accuracy."""

    @abc.abstractmethod
    def weights(self, t: Array) -> list[Array]:
        """[a_1, ..., a_D]: the chances that a clean token is on each level at time t."""

    @abc.abstractmethod
    def chances(self, t: Array, s: Array) -> Table:
        """c[l][e]: the chance that a state of level l at time s is taken to level e by time t; by nothing for e = 0."""

    @abc.abstractmethod
    def rates(self, t: Array) -> Table:
        """r[l][e], per unit of t: the rate at which a state of level l is taken to level e; r[l][0] is not read."""


@dataclasses.dataclass(frozen=True)
class Direct(LevelProcess):
    """Events of every level happen to every state, and those of a level hide the lower ones.

    S_d = 1 - n^p_d is the chance of no event above level d; S_D = 1. Then a_d = S_d - S_{d-1}, from s to t with
    S_d(t) / S_d(s) in the place of S_d.

    powers: p_1 < p_2 < ... of all levels but the last. (2,) gives the weights of Eq. 22.
    first: p_0.
    """

    schedule: Schedule
    powers: tuple[float, ...] = ()
    first: float = 1.0

    def __post_init__(self):
        if any(not low * LEAST_RISE <= high for low, high in zip(self._powers, self.powers)):
            told = f"powers {self.powers} must rise by 1 % at least from level to level, the first from {self.first:g}"
            raise UserError(told)

    @property
    def _powers(self):
        """(p_0, ..., p_{D-1})."""
        return (self.first, *self.powers)

    @property
    def levels(self):
        return len(self.powers) + 1

    def kept(self, t):
        return fall(self.schedule.alpha(t), self.first), power(self.schedule.noise(t), self.first)

    def weights(self, t):
        alpha, noise, log_noise = self.schedule.alpha(t), self.schedule.noise(t), self.schedule.log_noise(t)
        powers = self._powers
        falls = [alpha if q - p == 1 else -jnp.expm1((q - p) * log_noise) for p, q in zip(powers, powers[1:])]
        return [*(power(noise, p) * fall for p, fall in zip(powers, falls)), power(noise, powers[-1])]

    def survivals(self, t: Array) -> list[Array]:
        """[S_0, ..., S_D]."""
        alpha = self.schedule.alpha(t)
        return [*(fall(alpha, p) for p in self._powers), jnp.ones_like(alpha)]

    def chances(self, t, s):
        left = [ratio(after, before, 1) for after, before in zip(self.survivals(t), self.survivals(s), strict=True)]
        noise_t, noise_s = self.schedule.noise(t), self.schedule.noise(s)
        gone = [power(noise_t, p) for p in self._powers]
        rises = [after - power(noise_s, p) for after, p in zip(gone, self._powers)]
        early = [ratio(rise, before, 0) for rise, before in zip(rises, self.survivals(s))]
        # Of two ways to write 1 - S_d(t) / S_d(s), and the difference of two, that which subtracts no nearly equal
        # numbers.
        late = [after >= 0.5 for after in gone] + [jnp.full(noise_t.shape, True)]
        lost = [jnp.where(is_late, 1 - one, other) for is_late, one, other in zip(late, left, early)]
        lost.append(jnp.zeros_like(noise_t))
        events = [
            ramp(jnp.where(late[d] & late[d + 1], left[d + 1] - left[d], lost[d] - lost[d + 1]))
            for d in range(self.levels)
        ]
        return _by_state(left[0], events)

    def rates(self, t):
        """r_d = -d log(S_{d-1} / S_d) / dt. With n = e^-u, -S_d' / S_d = n' / n p / (e^(p u) - 1)."""
        noise, u = self.schedule.noise(t), -self.schedule.log_noise(t)
        # Not the derivative of the noise, which JAX rounds to 0 where alpha is below what float32 adds to 1.
        speed, powers = ratio(-self.schedule.alpha_dot(t), noise, 0), self._powers
        between = [_hazard_fall(p, q, u) for p, q in zip(powers, powers[1:])]
        last = ratio(jnp.full_like(u, powers[-1]), jnp.expm1(powers[-1] * u))
        return _by_state(jnp.zeros_like(noise), [speed * rate for rate in (*between, last)])


def _hazard_fall(p, q, u):
    """p / (e^(p u) - 1) - q / (e^(q u) - 1) for p < q, where both are nearly 1 / u by the series of x / (e^x - 1)."""
    near = q * u < 0.2
    terms = ((2, -1 / 2), (3, 1 / 12), (5, -1 / 720), (7, 1 / 30240), (9, -1 / 1209600))
    small = sum(value * (p ** (power - 1) - q ** (power - 1)) * u ** (power - 2) for power, value in terms)
    far = jnp.where(near, 1, u)
    return jnp.where(near, small, p / jnp.expm1(p * far) - q / jnp.expm1(q * far))


def _by_state(stay, events):
    """A Table of events that happen to every state; those not above its level change nothing."""
    table = [[stay, *events]]
    for level in range(1, len(events) + 1):
        nothing = [jnp.zeros_like(stay)] * level
        table.append([sum(events[:level], start=stay), *nothing, *events[level:]])
    return table


@dataclasses.dataclass(frozen=True)
class Sequential(LevelProcess):
    """Every state moves to the next level: from d - 1 to d at the rate speeds[d - 1] times -d log(1 - n) / dt.

    With the linear schedule and speeds (gamma, 1) these are HDLM's gamma / (1 - t) and 1 / (1 - t).
    """

    schedule: Schedule
    speeds: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self):
        if not all(SLOWEST <= speed <= FASTEST for speed in self.speeds):
            raise UserError(f"speeds {self.speeds} must be from {SLOWEST} to {FASTEST:g}")

    @property
    def levels(self):
        return len(self.speeds)

    def kept(self, t):
        if self.speeds[0] == 1:
            return self.schedule.alpha(t), self.schedule.noise(t)
        log_kept = self.speeds[0] * self._log_alpha(t)
        return jnp.exp(log_kept), -jnp.expm1(log_kept)

    def weights(self, t):
        chances = self._moved(-self._log_alpha(t))
        return [chances[..., 0, level] for level in range(1, self.levels + 1)]

    def chances(self, t, s):
        # Of two ways to write alpha_s - alpha_t, that which subtracts no two numbers near 1.
        alphas, noises = (
            self.schedule.alpha(s) - self.schedule.alpha(t),
            self.schedule.noise(t) - self.schedule.noise(s),
        )
        lost = ratio(jnp.where(self.schedule.noise(t) < 0.5, noises, alphas), self.schedule.alpha(s), 0)
        passed = jnp.where(lost < 0.5, -jnp.log1p(-jnp.minimum(lost, 0.5)), self._log_alpha(s) - self._log_alpha(t))
        chances, nothing = self._moved(passed), jnp.zeros_like(lost)
        table = [[chances[..., low, high] for high in range(self.levels + 1)] for low in range(self.levels + 1)]
        return [
            [row[low], *(nothing if e <= low else row[e] for e in range(1, len(row)))] for low, row in enumerate(table)
        ]

    def rates(self, t):
        alpha = self.schedule.alpha(t)
        nothing, pace = jnp.zeros_like(alpha), -self.schedule.alpha_dot(t) / alpha
        return [
            [speed * pace if event == level + 1 else nothing for event in range(self.levels + 1)]
            for level, speed in enumerate((*self.speeds, 0.0))
        ]

    def _log_alpha(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        late = jnp.where(alpha > 0, jnp.log(jnp.where(alpha > 0, alpha, 1)), -jnp.inf)
        return jnp.maximum(jnp.where(noise < 0.5, jnp.log1p(-jnp.minimum(noise, 0.5)), late), -self._latest)

    @property
    def _latest(self):
        """The time by which even the slowest level has been left."""
        return LATEST / min(1.0, *self.speeds)

    def _moved(self, time):
        """[..., D + 1, D + 1]: exp(G time) of the generator G. All its terms are positive, so that no digits are lost:
        the powers of 1 + G / fastest (uniformization), and squares of it for long times."""
        fastest = max(self.speeds)
        generator = np.diag([*self.speeds, 0.0]) @ (np.eye(self.levels + 1, k=1) - np.eye(self.levels + 1))
        short = time * fastest < SHORT
        halvings = int(np.ceil(np.log2(max(self._latest * fastest / SHORT, 1))))
        near = _uniformized(generator, fastest, jnp.where(short, time, 0))
        far = _uniformized(generator, fastest, jnp.where(short, 0, time) / 2**halvings)
        for _ in range(halvings):
            far = jnp.matmul(far, far, precision=jax.lax.Precision.HIGHEST)
            far = far / jnp.sum(far, axis=-1, keepdims=True)  # squares double the rounding of a sum that is 1
        return jnp.where(short[..., None, None], near, far)


SHORT, TERMS = 8.0, 48


def _uniformized(generator, fastest, time):
    """exp(generator time) for fastest time up to SHORT."""
    step = np.eye(len(generator)) + generator / fastest
    powers = np.stack([np.linalg.matrix_power(step, k) for k in range(TERMS)])
    counts = [jnp.exp(-fastest * time)]
    for k in range(1, TERMS):
        counts.append(counts[-1] * (fastest * time / k))
    return jnp.einsum("k...,kij->...ij", jnp.stack(counts), jnp.asarray(powers, time.dtype), precision="highest")
