"""Objectives on toys, and their sums on given logits."""

import dataclasses

import toys
from toys import TOYS

from semdlm_jax.objectives import Objective


def objective(name, kernel_name="semdlm_plus", **options):
    if name == "score_entropy":
        options.setdefault("parameterisation", "score")
    return Objective(name, TOYS[kernel_name].build(), **options)


def loss_and_weight(trained, features, x0, xt, t, mask, chunk=0, seed=0):
    """The sums of a batch whose features are its logits."""
    chunked = dataclasses.replace(trained, chunk=chunk)
    return chunked.sums(lambda f: f, features, x0, xt, t, mask, toys.key(seed))
