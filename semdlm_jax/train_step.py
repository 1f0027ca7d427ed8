"""One step of training: noise, microbatches, the gradient, the update."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from semdlm_jax.experiment.data import pads
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Stages
from semdlm_jax.runtime.mesh import BATCH_AXES, batch_sharding
from semdlm_jax.runtime.state import apply_update


def make_train_step(
    stages: Stages,
    denoiser: Denoiser,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    microbatches: int,
    seed: int,
    mesh: Mesh,
    state_shardings: Any,
    padded: bool = False,
) -> Callable:
    """The compiled training step.

    The randomness of a step depends on (seed, step) only. A resumed run therefore draws what an uninterrupted run would
    have drawn, on any mesh.

    Args:
        stages: the losses, by step.
        denoiser: the network.
        optimizer: an optax transformation.
        ema_decay: of the averaged parameters.
        microbatches: number of parts of a batch, for gradient accumulation.
        seed: of the noise and dropout.
        mesh: of the devices.
        state_shardings: a tree like the state.
        padded: rows may end in padding, where the mask is False; attention then ignores it.

    Returns:
        A jitted (state, tokens [B, L], mask [B, L]) -> (state, {loss, grad_norm}); the state is donated.
    """
    rows = batch_sharding(mesh)
    whole = NamedSharding(mesh, PartitionSpec())

    def loss_sums(params, step, batch, key):
        dropout_key, loss_key = jax.random.split(key)
        lengths = jnp.sum(batch.mask, axis=1) if padded else None
        dropout_key = dropout_key if denoiser.dropout else None
        marks = {} if batch.clean is None else {"clean_BxL": batch.clean}
        features = denoiser.features(params, batch.xt, batch.t, lengths_B=lengths, dropout_key=dropout_key, **marks)
        return stages.sums(readout_by_rows(denoiser, params, mesh), features, batch, step, loss_key)

    def differentiate(params, step, batch, key):
        """(loss, weight, a function from the loss's cotangent to gradients)."""
        loss, pull, weight = jax.vjp(lambda params: loss_sums(params, step, batch, key), params, has_aux=True)
        return loss, weight, lambda cotangent: pull(cotangent)[0]

    def one_of(weight):
        return jnp.where(weight == 0, 1, weight)  # of a batch in which nothing counts, whose sums are 0 as well

    def summed(state, batch, key):
        """(loss, weight, gradients of their ratio) of all microbatches."""
        if microbatches == 1:
            loss, weight, pull = differentiate(state.params, state.step, batch, jax.random.fold_in(key, 0))
            return loss, one_of(weight), pull(1 / one_of(weight))  # no pass over all gradients to divide them
        # Rows are interleaved, so that every device holds a part of every microbatch.
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, microbatches, *x.shape[1:]), 1, 0), batch)

        def accumulate(sums, indexed):
            index, part = indexed
            part = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), part)
            loss, weight, pull = differentiate(state.params, state.step, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, sums, (loss, weight, pull(jnp.ones_like(loss)))), None

        start = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        (loss, weight, grads), _ = jax.lax.scan(accumulate, start, (jnp.arange(microbatches), parts))
        return loss, one_of(weight), jax.tree.map(lambda g: g / one_of(weight), grads)

    def step(state, tokens, mask):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return on_mesh(state, tokens, mask)

    def on_mesh(state, tokens, mask):
        noise_key, part_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        batch = stages.corrupt(noise_key, tokens, mask, state.step)
        loss, weight, grads = summed(state, batch, part_key)
        norm = optax.global_norm(grads)
        return apply_update(state, grads, optimizer, ema_decay), {"loss": loss / weight, "grad_norm": norm}

    return jax.jit(
        step,
        in_shardings=(state_shardings, rows, rows),
        out_shardings=(state_shardings, whole),
        donate_argnums=0,
    )


def readout_by_rows(denoiser: Denoiser, params: Any, mesh: Mesh) -> Callable:
    """features [B, ..., D] -> logits [B, ..., V]: `denoiser.logits`, with a copy of the weights for each part of B.

    The loss reads chunks of positions in a loop. With one table, devices would add up their gradients of it in every
    turn of this loop; the gradients of copies, each on the devices of its rows, are added up once, after the loop.
    """
    rows, parts = batch_sharding(mesh), math.prod(mesh.shape[axis] for axis in BATCH_AXES)

    def of_each(x):
        others = [PartitionSpec.UNCONSTRAINED] * x.ndim
        copies = jnp.broadcast_to(x, (parts, *x.shape))
        return jax.lax.with_sharding_constraint(copies, NamedSharding(mesh, PartitionSpec(BATCH_AXES, *others)))

    copies = jax.tree.map(of_each, params)

    def readout(features):
        if parts == 1 or features.shape[0] % parts:
            return denoiser.logits(params, features)
        by_part = jax.lax.with_sharding_constraint(features.reshape(parts, -1, *features.shape[1:]), rows)
        logits = jax.vmap(denoiser.logits)(copies, by_part)
        return logits.reshape(*features.shape[:-1], logits.shape[-1])

    return readout


def configured_step(
    config: Any,
    stages: Stages,
    denoiser: Denoiser,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: Any,
) -> Callable:
    """`make_train_step` for a configuration. state: a TrainState, or its ShapeDtypeStructs with shardings."""
    return make_train_step(
        stages,
        denoiser,
        optimizer,
        ema_decay=config.optimizer.ema_decay,
        microbatches=config.training.microbatches,
        seed=config.seed,
        mesh=mesh,
        state_shardings=jax.tree.map(lambda leaf: leaf.sharding, state),
        padded=pads(config),
    )
