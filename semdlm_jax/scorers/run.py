"""A scorer by an autoregressive run of this package."""

import dataclasses
import os

import jax
import jax.numpy as jnp

from semdlm_jax.data.protocols import PROTOCOLS
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.options import switch, text
from semdlm_jax.plugins import field
from semdlm_jax.scorers.language_model import LanguageModel, ModelScorer


@dataclasses.dataclass(frozen=True)
class Run(ModelScorer):
    """An autoregressive run by its work directory, or a portable model of one; windows begin as its rows do."""

    data_directory: str | None = field(text(None, "where the run's prepared data are now, if they were moved"))
    trust_code: bool = field(switch(False, "import the modules of plug-ins of the run's author's own"))

    def read(self) -> LanguageModel:
        if not self.argument:
            raise UserError("scorer 'run' needs an autoregressive run: give run:WORKDIR")
        options = {"data_directory": self.data_directory, "trust_code": self.trust_code}
        trained = load_trained(os.path.expanduser(self.argument), **options)
        objective, denoiser, prepared = trained.objective, trained.denoiser, trained.corpus.prepared
        if not isinstance(objective, Autoregressive):
            name = trained.config.objective.name
            raise UserError(
                f"{self.spec}: its objective {name!r} predicts no token from those before it alone: give a run that "
                "was trained with --config.objective.name=autoregressive"
            )
        if prepared is None:
            raise UserError(f"{self.spec} was trained on random tokens, which have no text: give a run that was not")
        tokenizer, framed = prepared.tokenizer, PROTOCOLS[trained.config.data.protocol].has_bos_eos
        prefix = (objective.start_id, *[tokenizer.bos_id] * framed)
        most = len(prefix) + trained.config.data.length - 2 * framed  # of a row of its training

        def features(params, tokens_BxL: jax.Array) -> jax.Array:
            hidden = denoiser.features(params, tokens_BxL, jnp.zeros(tokens_BxL.shape[0]))
            return hidden.astype(jnp.float32)

        def losses(params, features: jax.Array, following: jax.Array) -> jax.Array:
            return objective.log_losses(denoiser.logits(params, features), following)

        return LanguageModel(
            f"{self.spec} (autoregressive, step {trained.step}, EMA weights, {denoiser.layers} layers of width "
            f"{denoiser.width}, vocabulary of {tokenizer.vocab_size})",
            tokenizer.encode_batch,
            trained.params,
            features,
            losses,
            prefix,
            most,
            most,
            denoiser.width,
            None,
            "what the run's own rows begin with",
        )
