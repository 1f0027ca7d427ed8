"""Objectives on toys, and their sums on given logits."""

import dataclasses

import toys
from toys import TOYS

from semdlm_jax.objectives import NoisyBatch, pick_objective


def objective(name, kernel_name="semdlm_plus", **options):
    """Of the options, those that the loss reads."""
    if name == "score_entropy":
        options.setdefault("parameterization", "score")
    return pick_objective(name, TOYS[kernel_name].build(), options)


def loss_and_weight(trained, features, x0, xt, t, mask, chunk=0, seed=0):
    """The sums of a batch whose features are its logits."""
    chunked = dataclasses.replace(trained, chunk=chunk)
    return chunked.sums(lambda f: f, features, NoisyBatch(x0, xt, t, mask), toys.key(seed))
