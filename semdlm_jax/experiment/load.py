"""Reading a run from its work directory: checkpoints, record and trained model; or the model from a portable copy."""

import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from semdlm_jax import checks, remote, workplace
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import portable
from semdlm_jax.experiment.build import build_denoiser, build_objective, shard_rule
from semdlm_jax.experiment.data import RunData, build_rows, build_run_data, check_unchanged
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import ObjectiveBase
from semdlm_jax.record import TRAINED_ON, read_config
from semdlm_jax.runtime.checkpoint_reader import CheckpointReader
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.mesh import make_mesh
from semdlm_jax.runtime.processes import on_host
from semdlm_jax.runtime.state import abstract_tree

BEST_METRIC = "valid/nelbo"


def checkpoints_of(workdir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(workdir) / "checkpoints"


def make_checkpointer(config: Any, workdir: str | pathlib.Path) -> Checkpointer:
    """For training in `workdir`. Others, who only read there, use `make_reader`."""
    shared = workplace.is_shared(workdir)
    return Checkpointer(checkpoints_of(workdir), config.training.keep_latest, best_metric=BEST_METRIC, shared=shared)


def make_reader(workdir: str | pathlib.Path) -> CheckpointReader:
    return CheckpointReader(checkpoints_of(workdir), best_metric=BEST_METRIC, shared=workplace.is_shared(workdir))


def read_run(workdir: str | pathlib.Path) -> Any:
    """The recorded configuration of a run, with what else is recorded. UserError: it is missing or damaged."""
    checks.check_workdir(workdir)
    try:
        return ConfigDict(read_config(workdir))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # names that no key can have
        raise UserError(f"the record in {workdir} is damaged ({error}): restore its config.json") from None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with its EMA parameters on the mesh, read from the work directory of a finished or running training.

    Attributes:
        programs: what `Generator` has compiled for this model; dropped together with it.
    """

    config: Any  # a ConfigDict
    corpus: RunData
    objective: ObjectiveBase
    denoiser: Denoiser
    mesh: jax.sharding.Mesh
    params: dict
    step: int
    programs: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights. All processes must ask for it."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.ascontiguousarray(on_host(leaf)).tobytes())
        return digest.hexdigest()

    def rows(self, split):
        """A split's rows, under the run's protocol."""
        if self.corpus.prepared is None:
            raise UserError("the run was trained on random tokens, which have no text: give a run that was not")
        return build_rows(self.config, self.corpus.prepared, split)

    @property
    def forbidden(self):
        """[V] bool: ids that the text of a row never holds: special tokens, except those that occur inside rows."""
        never = np.setdiff1d(self.corpus.special_ids, self.rows("train").inner_special_ids)
        return np.isin(np.arange(self.corpus.vocab_size), never)


def load_trained(
    workdir: str | pathlib.Path,
    checkpoint: str | int = "best",
    *,
    data_directory: str | None = None,
    trust_code: bool = False,
    fsdp: int = 1,
    tensor: int = 1,
) -> Trained:
    """Builds the model of a run, or of a portable model's folder, with its EMA parameters.

    Args:
        workdir: the work directory, or the folder of a portable model, which has one checkpoint and needs no data.
        checkpoint: 'best', 'latest' or a step.
        data_directory: where the prepared data are now; None: where they were when the run began.
        trust_code: import the modules of its author's own plug-ins, which runs their code.
        fsdp, tensor: axes of the mesh; the devices that they leave share the batch. They need not be the training's.

    Raises:
        UserError: something is missing, damaged, or not what the run was trained on; or such a mesh is impossible.
    """
    workdir = remote.local(workdir)
    read = _read_portable if portable.is_portable(workdir) else _read_run
    data = 1 if -1 in (fsdp, tensor) else -1
    return read(workdir, checkpoint, data_directory, trust_code, make_mesh(data, fsdp, tensor))


def _read_run(workdir, checkpoint, data_directory, trust_code, mesh):
    config = read_run(workdir)
    checks.check_recorded(config, workdir, trust_code=trust_code)
    checks.find_data(config, config, data_directory)
    parts, abstract = _build(workdir, config, build_run_data(config), mesh)
    restored = make_reader(workdir).restore_parts({"ema_params": abstract}, checkpoint)
    if restored is None:
        raise UserError(f"{workdir} holds no checkpoint yet: train it first with python -m semdlm_jax.train")
    return Trained(*parts, restored[0]["ema_params"], restored[1])


def _read_portable(folder, checkpoint, data_directory, trust_code, mesh):
    manifest = portable.read_manifest(folder)
    step = manifest["step"]
    if checkpoint not in ("best", step):
        raise UserError(f"{folder} is a portable model, of step {step} alone: leave out the checkpoint {checkpoint}")
    if data_directory is not None:
        raise UserError(f"{folder} is a portable model, which reads no prepared data: leave out the data directory")
    config = read_run(folder)
    checks.check_recorded(config, folder, trust_code=trust_code)
    parts, abstract = _build(folder, config, portable.read_run_data(folder, config, manifest), mesh)
    return Trained(*parts, portable.read_weights(folder, abstract), step)


def _build(workdir, config, corpus, mesh):
    """((config, corpus, objective, denoiser, mesh), the weights as ShapeDtypeStructs with their shardings)."""
    check_unchanged(workdir, config.get(TRAINED_ON, {}), config, corpus)
    objective, denoiser = build_objective(config, corpus), build_denoiser(config, corpus)
    return (config, corpus, objective, denoiser, mesh), abstract_tree(denoiser.init, shard_rule(mesh))
