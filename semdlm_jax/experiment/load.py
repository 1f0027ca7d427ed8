"""A run by its work directory: its checkpoints, its record, and the model trained there."""

import dataclasses
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from semdlm_jax import checks
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_denoiser, build_objective, shard_rule
from semdlm_jax.experiment.data import Corpus, build_corpus, build_rows, check_unchanged
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Autoregressive, Objective
from semdlm_jax.record import TRAINED_ON, read_config
from semdlm_jax.runtime.checkpoint_reader import CheckpointReader
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.runtime.state import abstract_tree

BEST_METRIC = "valid/nelbo"


def checkpoints_of(workdir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(workdir) / "checkpoints"


def make_checkpointer(config: ConfigDict, workdir: str | pathlib.Path) -> Checkpointer:
    """For the training of `workdir`; whoever else reads there takes `make_reader`."""
    return Checkpointer(checkpoints_of(workdir), config.training.keep_latest, best_metric=BEST_METRIC)


def make_reader(workdir: str | pathlib.Path) -> CheckpointReader:
    return CheckpointReader(checkpoints_of(workdir), best_metric=BEST_METRIC)


def read_run(workdir: str | pathlib.Path) -> ConfigDict:
    """The configuration that a run was recorded with, what else is recorded included. UserError: not there, damaged."""
    checks.check_workdir(workdir)
    try:
        return ConfigDict(read_config(workdir))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # names that no key can have
        raise UserError(f"the record in {workdir} is damaged ({error}): restore its config.json") from None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished or running model, read from its work directory, with EMA parameters on the mesh. programs: what
    `Generator` has compiled of it, gone with the model."""

    config: ConfigDict
    corpus: Corpus
    objective: Objective | Autoregressive
    denoiser: Denoiser
    mesh: jax.sharding.Mesh
    params: dict
    step: int
    programs: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def rows(self, split):
        """A split's rows, under the run's protocol."""
        return build_rows(self.config, self.corpus.prepared, split)

    @property
    def forbidden(self):
        """[V] bool: ids that no text of a row holds: specials, but for marks of the protocol."""
        never = np.setdiff1d(self.corpus.special_ids, self.rows("train").marks)
        return np.isin(np.arange(self.corpus.vocab_size), never)


def load_trained(workdir, checkpoint="best", *, data_directory=None, trust_kernel=False):
    """Builds the run of a work directory and restores its EMA parameters from the 'best' or 'latest' checkpoint.

    data_directory: where its prepared data lie now; None where they lay at its start. trust_kernel: import the module
    of a kernel of its author's own, which runs that module's code.
    """
    config = read_run(workdir)
    checks.check_recorded(config, workdir, trust_kernel=trust_kernel)
    checks.find_data(config, config, data_directory)
    corpus = build_corpus(config)
    check_unchanged(workdir, config.get(TRAINED_ON, {}), config, corpus)
    objective, denoiser = build_objective(config, corpus), build_denoiser(config, corpus)
    # Elsewhere than it was trained: whatever devices are here share the batch.
    mesh = make_mesh(-1, 1, 1)
    abstract = abstract_tree(denoiser.init, shard_rule(mesh))
    restored = make_reader(workdir).restore_parts({"ema_params": abstract}, checkpoint)
    if restored is None:
        raise UserError(f"{workdir} holds no checkpoint yet: train it first with python -m semdlm_jax.train")
    parts, step = restored
    return Trained(config, corpus, objective, denoiser, mesh, parts["ema_params"], step)
