"""A trained model in Python: its text, its scores, its weights.

Three lines, with a model of the package:

    model = semdlm_jax.load("quickstart-mdlm")
    print(model.generate(prompt="my fellow citizens", num_samples=4).text)
    print(model.nelbo("A letter of my own.").perplexity)
"""

import functools
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from semdlm_jax import generate as writing
from semdlm_jax import models, scores
from semdlm_jax.data import conditioning
from semdlm_jax.data.packing import pack
from semdlm_jax.data.protocols import read_row
from semdlm_jax.data.scored import scored_counts
from semdlm_jax.data.tokenizer import Tokenizer
from semdlm_jax.data.unknown import unknown_remarks, unknown_share_of
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import Likelihood
from semdlm_jax.experiment.load import Trained, load_trained
from semdlm_jax.generator import note_of_context
from semdlm_jax.samplers.presets import make_settings


class Samples(NamedTuple):
    """text: N strings. tokens: [N, L] int32, whole rows of the run's protocol."""

    text: list[str]
    tokens: np.ndarray


class Model:
    """A trained model. `load` makes one; `Model(trained)` takes the result of `experiment.load.load_trained`."""

    def __init__(self, trained: Trained):
        if trained.corpus.prepared is None:
            raise UserError("this run was trained on synthetic tokens: there is no text in it")
        self.trained, self._prepared = trained, trained.corpus.prepared
        self._noted = ""

    def __repr__(self):
        config = self.config
        what = "autoregressive" if self.trained.objective.exact else config.kernel.name
        return f"<Model: {what}, {config.data.protocol} rows of {config.data.length}, step {self.step}>"

    @property
    def params(self) -> dict:
        """The averaged (EMA) weights: a tree of arrays."""
        return self.trained.params

    @property
    def config(self) -> Any:
        """The configuration of the run, a ConfigDict."""
        return self.trained.config

    @property
    def step(self) -> int:
        """The training step of the weights."""
        return self.trained.step

    @property
    def tokenizer(self) -> Tokenizer:
        return self._prepared.tokenizer

    def generate(
        self,
        prompt: str | None = "",
        *,
        num_samples: int = 1,
        suffix: str | None = "",
        infill: str | None = None,
        preset: str | None = None,
        seed: int = 0,
        batch_size: int = 64,
        **settings,
    ) -> Samples:
        """Generates text. A second call with the same shapes compiles nothing.

        Args:
            prompt, suffix: text that starts and ends every sample; '' or None for none.
            num_samples: number of samples.
            infill: instead of these, text with blanks [___], one underscore for each token to fill in.
            preset: a name of `samplers.presets.PRESETS`, the settings of a system's authors; `settings` change them.
            seed: of all randomness. The text also depends on the batch size and on the number of devices.
            batch_size: samples drawn at once.
            **settings: of `samplers.SamplingSettings`: sampler, steps, temperature, lambda_freq, … and the options of
                the sampler by their names, as sampler="blockwise", rho=0.5.

        Returns:
            Samples.

        Raises:
            UserError: impossible settings, a prompt that is too long or that the vocabulary does not know.
        """
        prompt, suffix = ("" if text is None else text for text in (prompt, suffix))
        for name, text in (("prompt", prompt), ("suffix", suffix), ("infill", infill or "")):
            if not isinstance(text, str):
                raise UserError(
                    f"{name} is one text, a str, not {type(text).__name__}: call generate once for each text"
                )
        if infill is not None and (prompt or suffix):
            raise UserError("infill and prompt or suffix exclude one another: give one")
        names = {name: name for name in ("prompt", "suffix", "infill")}
        room, tell = self.trained.rows("train").max_text_len, functools.partial(print, "warning:", file=sys.stderr)
        given, sampler = ({"the prompt": prompt}, suffix, infill), make_settings(preset, **settings)
        conditions = conditioning.make_conditions(self.tokenizer, room, *given, names, tell)
        options = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size}
        tokens, _ = writing.generate(self.trained, sampler, conditions=conditions, **options)
        note = note_of_context(self.trained, conditions, sampler)
        if note and note != self._noted:
            print(note, file=sys.stderr)
            self._noted = note
        return Samples([read_row(self.tokenizer, row[row != self.tokenizer.pad_id]) for row in tokens], tokens)

    def nelbo(
        self, texts: str | Iterable[str], *, draws: int | None = None, seed: int = 0, protocol: str | None = None
    ) -> Likelihood:
        """The likelihood bound of texts, in nats per token. Warns of text that the vocabulary does not know.

        Args:
            texts: one text or several; each is a document.
            draws: times and corruptions of a row; None for the number in the configuration.
            seed: of times and noise.
            protocol: how documents become rows, a name of `data.protocols.PROTOCOLS`; None for that of the run. Scores
                under different protocols are never comparable.

        Returns:
            Likelihood: nelbo, its three terms, its standard error, perplexity, number of tokens scored.

        Raises:
            UserError: there is no text, or the likelihood is not finite.
        """
        documents = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else [texts]
        wrong = [type(text).__name__ for text in documents if not isinstance(text, str)]
        if wrong:
            raise UserError(f"a text to score is a str, not {wrong[0]}: give one or several")
        if not any(text.strip() for text in documents):
            raise UserError("there is no text to score: give one or several texts")
        rows = scores.rows_of(self.trained, pack(documents, self.tokenizer), protocol)
        for remark in unknown_remarks(unknown_share_of(self.tokenizer, scored_counts(rows, self.tokenizer.vocab_size))):
            print(f"warning: {remark}", file=sys.stderr)
        return scores.score_rows(self.trained, rows, seed=seed, draws=draws)[0]


def load(
    source: str | pathlib.Path,
    checkpoint: str | int = "best",
    *,
    data_directory: str | None = None,
    trust_code: bool = False,
) -> Model:
    """Loads a trained model.

    Args:
        source: the work directory of a run; a folder that `semdlm_jax.export` wrote; the address of either on a store,
            which is looked at anew; a model of the package, 'quickstart-mdlm' or 'quickstart-semdlm_plus'; or
            'hf:OWNER/NAME' of the Hugging Face Hub.
        checkpoint: of a run: 'best', 'latest' or a step.
        data_directory: where the prepared data of a run are now; None if they were not moved.
        trust_code: import the modules of plug-ins that the author of the run wrote, which runs their code.

    Returns:
        The model.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    found = models.find(source)
    return Model(load_trained(found, checkpoint, data_directory=data_directory, trust_code=trust_code))
