"""Learning-rate schedules and optimizers, chosen by name; parameters are classified by their path."""

import abc
import dataclasses
import re
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import optax

from semdlm_jax.errors import UserError
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, Registry, field
from semdlm_jax.runtime.paths import map_with_path

BELOW_ONE = "[0, 1)"
FINAL_FRACTION = number(0.0, "[0, 1]", "of the peak, at the end")

# Muon is meant for the dense maps between hidden states. Modulation and time maps see one vector a sequence, not one a
# token: their gradients are of low rank and orthogonalizing them would only amplify noise, so they stay with AdamW.
HIDDEN_MATRIX = re.compile(r"(^|/)blocks/(attention|mlp)/\w+/kernel$")
MATRIX = re.compile(r"(^|/)(kernel|embedding)$")

# RMS of a Muon update per unit of learning rate: AdamW's is about this, so that both share one learning rate.
MUON_RMS = 0.2


@dataclasses.dataclass(frozen=True)
class LearningRate(Plugin, abc.ABC):
    """A learning-rate schedule: a linear rise over `warmup_steps`, multiplied by `shape`.

    Step 0 gets 1 / warmup_steps of the peak.
    """

    RETURNS = {"shape": lambda found, step, total_steps: _factor_problem(found)}
    learning_rate: float = field(number(3e-4, "(0, 1000]", "at its peak"))
    warmup_steps: int = field(number(2500, "[0, 1000000000]", "in which the learning rate rises"))

    @abc.abstractmethod
    def shape(self, step: jax.Array, total_steps: int) -> jax.Array:
        """The factor of the peak after the warm-up; step: float32[], 0-based."""

    def check(self, total_steps: int) -> None:
        """UserError if a run of `total_steps` cannot have this schedule."""
        if not self.warmup_steps < total_steps:
            raise UserError(
                f"{self.warmup_steps} warm-up steps do not fit in {total_steps} training steps: "
                "lower optimizer.warmup_steps"
            )

    def build(self, total_steps: int) -> Callable[[int | jax.Array], jax.Array]:
        """The learning rate as a function of the step (0-based, int or int32[]), float32[]. Raises as `check` does."""
        self.check(total_steps)

        def schedule(step):
            step = jnp.asarray(step, jnp.float32)
            warmup = jnp.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
            return self.learning_rate * warmup * self.shape(step, total_steps)

        return schedule


def _factor_problem(found):
    """What is wrong with the result of a user's own `shape`; '' for a number."""
    right = isinstance(found, int | float) or getattr(found, "shape", None) == ()
    return "" if right else f"a {type(found).__name__}: return one number"


@dataclasses.dataclass(frozen=True)
class Constant(LearningRate):
    """The learning rate stays at its peak."""

    def shape(self, step, total_steps):
        return jnp.ones_like(step)


@dataclasses.dataclass(frozen=True)
class Cosine(LearningRate):
    """The learning rate falls along half a cosine after the warm-up."""

    final_fraction: float = field(FINAL_FRACTION)

    def shape(self, step, total_steps):
        progress = jnp.clip((step - self.warmup_steps) / (total_steps - self.warmup_steps), 0, 1)
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay(LearningRate):
    """The learning rate stays at its peak and falls linearly over the last `decay_fraction` of all steps."""

    decay_fraction: float = field(number(0.2, "(0, 1]", "of all steps: the end in which it falls"))
    final_fraction: float = field(FINAL_FRACTION)

    def check(self, total_steps):
        super().check(total_steps)
        room = 1 - self.warmup_steps / total_steps
        if not self.decay_fraction <= room:
            raise UserError(
                f"decay fraction {self.decay_fraction} leaves no room after {self.warmup_steps} of {total_steps} "
                f"warm-up steps: give one in (0, {room:g}]"
            )

    def shape(self, step, total_steps):
        progress = jnp.clip(step / total_steps, 0, 1)
        return 1 - (1 - self.final_fraction) * jnp.clip(1 - (1 - progress) / self.decay_fraction, 0, 1)


LEARNING_RATES = Registry(
    "learning-rate schedule", LearningRate, {"constant": Constant, "cosine": Cosine, "wsd": WarmupStableDecay}
)


def is_matrix(path: str) -> bool:
    """Whether the parameter at `path` multiplies activations (kernels, embedding tables): only these decay.

    Decided by name, not by rank: under nn.scan a bias has a leading layer axis and looks like a matrix.
    """
    return MATRIX.search(path) is not None


@dataclasses.dataclass(frozen=True)
class Optimizer(Plugin, abc.ABC):
    """Turns gradients into updates that are added to the parameters.

    Gradients are first clipped to the global norm `clip_norm` (0: no clipping). `weight_decay` is decoupled, multiplied
    by the learning rate, and applied to matrices only.
    """

    RETURNS = {"updates": lambda found, schedule: _updates_problem(found)}
    b1: float = field(number(0.9, BELOW_ONE, "of Adam: memory of the gradient"))
    b2: float = field(number(0.999, BELOW_ONE, "and of its square"))
    eps: float = field(number(1e-8, "[1e-30, 1]", "of Adam"))
    weight_decay: float = field(number(0.0, "[0, 1000]", "of matrices, times the learning rate"))
    clip_norm: float = field(number(1.0, "[0, 1000000]", "largest norm of a gradient; 0: any"))

    @abc.abstractmethod
    def updates(self, schedule: Callable) -> optax.GradientTransformation:
        """The transformation after the clipping. schedule: step -> learning rate."""

    def adamw(self, schedule: Callable) -> optax.GradientTransformation:
        """AdamW with these options; other methods use it for a part of the parameters."""
        return optax.adamw(
            schedule,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=lambda tree: map_with_path(_decays, tree),
        )

    def build(self, schedule: Callable) -> optax.GradientTransformation:
        """The whole transformation. schedule: step -> learning rate."""
        clip = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()
        return optax.chain(clip, self.updates(schedule))


def _updates_problem(found):
    """What is wrong with the result of a user's own `updates`; '' for a transformation."""
    right = isinstance(found, optax.GradientTransformation)
    return "" if right else f"a {type(found).__name__}: return an optax.GradientTransformation"


def _decays(path, _):
    return is_matrix(path)


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW on every parameter."""

    def updates(self, schedule):
        return self.adamw(schedule)


@dataclasses.dataclass(frozen=True)
class Muon(Optimizer):
    """Muon on the attention and MLP kernels of the blocks, AdamW at the same learning rate on every other parameter.

    The kernels are [in, out], or [layers, in, out] when scanned: then each layer is orthogonalized on its own.
    """

    muon_momentum: float = field(number(0.95, BELOW_ONE, "of muon"))

    def updates(self, schedule):
        # Built from the parts of optax.contrib.muon, whose own AdamW has no decay mask and forces Nesterov momentum.
        def per_layer(updates):
            # Axes not named (the leading layer axis of a scanned stack) are batch axes.
            return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(-2, -1), updates)

        def scale(update):
            return update * (MUON_RMS * max(update.shape[-2:]) ** 0.5)

        muon = optax.chain(
            optax.contrib.scale_by_muon(beta=self.muon_momentum, weight_dimension_numbers=per_layer),
            optax.stateless(lambda updates, _: jax.tree.map(scale, updates)),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )

        def group(path, _):
            return "muon" if HIDDEN_MATRIX.search(path) else "adamw"

        parts: dict[Hashable, optax.GradientTransformation] = {"muon": muon, "adamw": self.adamw(schedule)}
        return optax.partition(parts, lambda params: map_with_path(group, params))


OPTIMIZERS = Registry("optimizer", Optimizer, {"adamw": AdamW, "muon": Muon})
