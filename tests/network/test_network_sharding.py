"""The sharding rules and the parameters they are written for."""

import re

import jax
import pytest

from semdlm_jax.network import RULES, Denoiser
from semdlm_jax.runtime.paths import path_text


def shapes(tied):
    denoiser = Denoiser(vocab_size=64, width=16, layers=2, heads=2, condition_width=8, tied_output=tied)
    leaves = jax.tree_util.tree_flatten_with_path(jax.eval_shape(denoiser.init, jax.random.key(0)))[0]
    return {path_text(path): leaf.shape for path, leaf in leaves}


def test_every_rule_cuts_something_of_its_shape():
    found = shapes(tied=False)
    for pattern, spec in RULES:
        hits = [path for path in found if re.search(pattern, path)]
        assert hits, pattern
        for path in hits:
            assert len(spec) <= len(found[path]), (pattern, path)


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_large_is_cut(tied):
    """Of the parameters that no rule reaches, none grows with the vocabulary times a width, or with two widths."""
    whole = {path for path in shapes(tied) if not any(re.search(pattern, path) for pattern, _ in RULES)}
    assert whole == {
        "blocks/modulation/bias",
        "final_modulation/bias",
        "output_bias",
        *(f"time_embedding/{layer}/{part}" for layer in ("hidden", "out") for part in ("kernel", "bias")),
    }
