"""Learning-rate schedules and optimisers, chosen by name; parameters are classified by their path."""

import re

import jax
import jax.numpy as jnp
import optax

from semdlm_jax.errors import UserError, choose
from semdlm_jax.keys import check_options
from semdlm_jax.runtime.paths import map_with_path

# Muon is meant for the dense maps between hidden states. Modulation and time maps see one vector a sequence, not one a
# token: their gradients are of low rank and orthogonalising them would only amplify noise, so they stay with AdamW.
HIDDEN_MATRIX = re.compile(r"(^|/)blocks/(attention|mlp)/\w+/kernel$")
MATRIX = re.compile(r"(^|/)(kernel|embedding)$")

# RMS of a Muon update per unit of learning rate: AdamW's is about this, so that both share one learning rate.
MUON_RMS = 0.2


def _constant(progress, decay_fraction, final_fraction):
    return jnp.ones_like(progress)


def _cosine(progress, decay_fraction, final_fraction):
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _wsd(progress, decay_fraction, final_fraction):
    return 1 - (1 - final_fraction) * jnp.clip(1 - (1 - progress) / decay_fraction, 0, 1)


# name -> factor of the peak at `progress` in [0, 1].
SCHEDULES = {"constant": _constant, "cosine": _cosine, "wsd": _wsd}


def make_schedule(name, learning_rate, warmup_steps, total_steps, decay_fraction=0.2, final_fraction=0.0):
    """The learning rate as a function of the step (0-based, int or int32[]), float32[].

    Every schedule rises linearly over `warmup_steps` (step 0 gets 1/warmup_steps of the peak). Then `constant` stays;
    `cosine` falls to `final_fraction` of the peak at `total_steps`; `wsd` (warm-up, stable, decay) falls linearly to
    it over the last `decay_fraction` of `total_steps`. UserError for an unknown name or values out of range.
    """
    shape = choose("schedule", name, SCHEDULES)
    shape_of = {"decay_fraction": decay_fraction, "final_fraction": final_fraction}
    check_options("optimizer", learning_rate=learning_rate, warmup_steps=warmup_steps, **shape_of)
    if not warmup_steps < total_steps:
        raise UserError(
            f"{warmup_steps} warm-up steps do not fit in {total_steps} training steps: lower optimizer.warmup_steps"
        )
    if name == "wsd" and not decay_fraction <= 1 - warmup_steps / total_steps:
        raise UserError(
            f"decay fraction {decay_fraction} leaves no room after {warmup_steps} of {total_steps} warm-up steps:"
            f" give one in (0, {1 - warmup_steps / total_steps:g}]"
        )

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        # Only the cosine starts where the warm-up ends; the others measure progress from step 0.
        start = warmup_steps if name == "cosine" else 0
        progress = jnp.clip((step - start) / (total_steps - start), 0, 1)
        return learning_rate * warmup * shape(progress, decay_fraction, final_fraction)

    return schedule


def is_matrix(path):
    """Whether the parameter at `path` multiplies activations (kernels, embedding tables): these decay, others do not.

    By name, not by rank: under nn.scan a bias has a leading layer axis and looks like a matrix.
    """
    return MATRIX.search(path) is not None


def make_optimizer(name, schedule, *, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip_norm=1.0, muon_momentum=0.95):
    """The optax transformation `name` ('adamw', 'muon'): gradients in, updates to be added to the parameters out.

    `schedule` maps a step to the learning rate. Gradients are first clipped to the global norm `clip_norm` (0: no
    clipping). `weight_decay` is decoupled, multiplied by the learning rate, and applies to matrices only. `muon`
    treats the attention and MLP kernels of the blocks ([in, out], or [layers, in, out] when scanned: one
    orthogonalisation a layer) and leaves every other parameter to AdamW at the same learning rate.
    UserError for an unknown name or values out of range.
    """
    build = choose("optimizer", name, OPTIMIZERS)
    factors = {"weight_decay": weight_decay, "clip_norm": clip_norm, "muon_momentum": muon_momentum}
    check_options("optimizer", b1=b1, b2=b2, eps=eps, **factors)
    adamw = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=lambda tree: map_with_path(_decays, tree)
    )
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, build(adamw, schedule, weight_decay, muon_momentum))


def _decays(path, _):
    return is_matrix(path)


def _adamw(adamw, schedule, weight_decay, momentum):
    return adamw


def _muon(adamw, schedule, weight_decay, momentum):
    # The parts of optax.contrib.muon, assembled here: its own AdamW has no decay mask and forces Nesterov momentum.
    def per_layer(updates):
        # Axes not named (the leading layer axis of a scanned stack) are batch axes.
        return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(-2, -1), updates)

    def scale(update):
        return update * (MUON_RMS * max(update.shape[-2:]) ** 0.5)

    muon = optax.chain(
        optax.contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=per_layer),
        optax.stateless(lambda updates, _: jax.tree.map(scale, updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )

    def group(path, _):
        return "muon" if HIDDEN_MATRIX.search(path) else "adamw"

    return optax.partition({"muon": muon, "adamw": adamw}, lambda params: map_with_path(group, params))


OPTIMIZERS = {"adamw": _adamw, "muon": _muon}
