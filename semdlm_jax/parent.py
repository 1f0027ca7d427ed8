"""Starting a run from the weights of another run or portable model: which, whether they fit, and the record of it."""

import dataclasses
import pathlib
import re
from typing import Any

import jax.numpy as jnp
import optax

from semdlm_jax import models, remote
from semdlm_jax.data.tokenizers import load_tokenizer
from semdlm_jax.errors import UserError, choose
from semdlm_jax.experiment import portable
from semdlm_jax.experiment.data import RunData
from semdlm_jax.experiment.load import make_reader, read_run
from semdlm_jax.options import flatten
from semdlm_jax.record import PARENT, TRAINED_ON
from semdlm_jax.runtime.paths import differences
from semdlm_jax.runtime.processes import on_process_0
from semdlm_jax.runtime.state import TrainState, state_from
from semdlm_jax.storage import PathLike, digest_of

# Keys of the network that do not change its weights: a difference in them is not reported.
MUTABLE = "network.dropout", "network.remat", "network.unroll", "network.attention"
FIELDS = {"workdir", "weights", "optimizer", "step", "checkpoint", "integrity"}
WEIGHTS = {"ema": "ema_params", "raw": "params"}  # name -> part of a checkpoint


@dataclasses.dataclass(frozen=True)
class Request:
    """What --init_from asks for.

    Attributes:
        run: a work directory, or the folder of a portable model; a path or an address.
        checkpoint: 'latest', 'best' or a step.
        weights: a name of WEIGHTS.
        optimizer: whether the optimizer's state is taken too.
    """

    run: PathLike
    checkpoint: str | int
    weights: str
    optimizer: bool

    def __post_init__(self):
        choose("weights", self.weights, WEIGHTS)

    def names(self, entry: dict) -> bool:
        """Whether a recorded parent is the requested one."""
        same = all(entry.get(name) == value for name, value in self._said().items())
        return same and self.checkpoint in (entry.get("step"), entry.get("checkpoint"))

    def _said(self):
        place = self.run if remote.is_address(self.run) else pathlib.Path(self.run).absolute()
        return {"workdir": str(place), "weights": self.weights, "optimizer": self.optimizer}


def parse(init_from: str | None, weights: str | None = None, optimizer: bool = False) -> Request | None:
    """The Request of the three flags.

    Args:
        init_from: RUN[:step|best|latest], or a portable model as `models.find` takes it; None if not given.
        weights: a name of WEIGHTS; None for the default.
        optimizer: whether the optimizer's state is taken too.

    Returns:
        The Request; None if no run is given.

    Raises:
        UserError: options without a run.
    """
    if init_from is None:
        if weights is not None or optimizer:
            raise UserError("--init_weights and --init_optimizer say what to take from a run: give --init_from=RUN")
        return None
    run, colon, which = init_from.rpartition(":")
    if not re.fullmatch(r"\d+|best|latest", which) or not colon:
        run, which = init_from, ""
    if not run:
        raise UserError(f"--init_from={init_from} names no run: give the work directory of one")
    checkpoint = int(which) if which.isdigit() else which or "latest"
    named = run in models.names() or run.startswith(models.HUB)
    if remote.is_address(run):
        path = run.rstrip("/")  # copied only where it is needed: at the first start of a run
    else:
        path = models.find(run) if named else pathlib.Path(run).expanduser()
    return Request(path, checkpoint, weights or "ema", optimizer)


def settle(
    request: Request | None, recorded: dict | None, config, corpus: RunData, abstract: TrainState
) -> dict | None:
    """Decides which parent a run has.

    Args:
        request: of this start; None if it asks for no parent.
        recorded: the record of an earlier start, which decides if there is one.
        config, corpus, abstract: the configuration, data and abstract state of the new run.

    Returns:
        The entry to record; None for a run without a parent.

    Raises:
        UserError: the request differs from that of the first start, or the weights do not fit.
    """
    if recorded is None:
        return None if request is None else _resolve(request, config, corpus, abstract)
    entry = recorded.get(PARENT)
    if entry is not None and not FIELDS <= entry.keys():
        raise UserError(f"the record of this run is damaged: its parent lacks {', '.join(FIELDS - entry.keys())}")
    if request is not None:
        if entry is None or not request.names(entry):
            began = describe(entry) if entry else "new weights"
            raise UserError(
                f"--init_from={request.run}: the run in this work directory began with {began}: "
                "give another work directory, or the former --init_from"
            )
        print(f"--init_from was used at the first start of this run, which began with {describe(entry)}", flush=True)
    return entry


def describe(entry: dict) -> str:
    """A recorded parent in words, for messages."""
    moments = " and the optimizer state" if entry.get("optimizer") else ""
    return f"the {entry.get('weights')} weights{moments} of {entry.get('workdir')}, step {entry.get('step')}"


def begin(entry: dict, optimizer: optax.GradientTransformation, abstract: TrainState) -> TrainState:
    """The first state of a run with a parent.

    Args:
        entry: the recorded parent.
        optimizer: of the new run.
        abstract: the abstract state of the new run, with shardings.

    Raises:
        UserError: the parent's checkpoint has changed since it was recorded, or is gone.
    """
    here = entry | {"workdir": remote.local(entry["workdir"])}
    read = _read_portable if portable.is_portable(here["workdir"]) else _read_checkpoint
    had = _had_by(read_run(here["workdir"]), abstract)
    parts = read(here, _parts(entry["weights"], entry["optimizer"], had))
    if parts is None:
        raise UserError(
            f"{entry['workdir']}: its checkpoint of step {entry['step']}, which this run starts from, has changed or "
            "is gone: put it back, or start in another work directory"
        )
    print(f"beginning with {describe(entry)}", flush=True)
    new = {name: jnp.zeros(x.shape, x.dtype) for name, x in abstract.params.items() if name not in had.params}
    return state_from(parts[WEIGHTS[entry["weights"]]] | new, optimizer, abstract, parts.get("opt_state"))


def _had_by(former, abstract):
    """`abstract` without the parameter that a parent without network.clean_mark lacks: at zero it is no mark."""
    if former.network.clean_mark:
        return abstract
    return dataclasses.replace(abstract, params={k: v for k, v in abstract.params.items() if k != "clean_mark"})


def _read_checkpoint(entry, wanted):
    """The parts of the parent's checkpoint; None if it is not the recorded one."""
    reader = make_reader(entry["workdir"])
    found = reader.restore_parts(wanted, entry["step"])
    same = found is not None and on_process_0(lambda: reader.digest(found[1])) == entry["integrity"]
    return found[0] if found is not None and same else None


def _read_portable(entry, wanted):
    """The same of a portable model, which holds weights alone."""
    if digest_of(portable.read_manifest(entry["workdir"])) != entry["integrity"]:
        return None
    return {name: portable.read_weights(entry["workdir"], tree) for name, tree in wanted.items()}


def _resolve(request, config, corpus, abstract):
    """The entry to record for a run that has not started yet."""
    said, request = request._said(), dataclasses.replace(request, run=remote.local(request.run))
    former: Any = read_run(request.run)
    _check_vocabulary(request.run, former, corpus)
    find = _find_portable if portable.is_portable(request.run) else _find_checkpoint
    step, digest = find(request, _had_by(former, abstract))
    here, there = (flatten({"network": one.network.to_dict()}) for one in (config, former))
    if differing := differences(here, there, MUTABLE):
        taken = f"all weights of {request.run} are taken, and the network uses them otherwise"
        print(f"note: {taken}: {differing}", flush=True)
    return {**said, "step": step, "checkpoint": request.checkpoint, "integrity": digest}


def _find_portable(request, abstract):
    """(step, digest) of a portable model. UserError: it is not what is asked for, or does not fit."""
    manifest, told = portable.read_manifest(request.run), f"--init_from={request.run} is a portable model"
    if request.weights != "ema" or request.optimizer:
        raise UserError(f"{told}, which holds averaged weights alone: leave out --init_weights and --init_optimizer")
    if request.checkpoint not in ("best", "latest", manifest["step"]):
        raise UserError(f"{told}, of step {manifest['step']} alone: leave out the checkpoint {request.checkpoint}")
    portable.read_weights(request.run, abstract.params, "set the keys of config.network as it has them")
    return manifest["step"], digest_of(manifest)


def _find_checkpoint(request, abstract):
    """(step, digest) of a run's checkpoint. UserError: it is not there, or does not fit."""
    reader = make_reader(request.run)
    step = reader.find(_parts(request.weights, False, abstract), request.checkpoint)
    if step is None:
        raise UserError(f"--init_from={request.run} holds no checkpoint yet: train it first, or leave out --init_from")
    if request.optimizer:
        try:
            reader.find(_parts(request.weights, True, abstract), step)
        except UserError as error:
            raise UserError(f"{error}, or leave out --init_optimizer") from None
    return step, on_process_0(lambda: reader.digest(step))


def _parts(weights, optimizer, abstract):
    wanted = {WEIGHTS[weights]: abstract.params}
    return wanted | ({"opt_state": abstract.opt_state} if optimizer else {})


def _check_vocabulary(run, former, corpus):
    """UserError unless the run's vocabulary is that of `corpus`."""
    then, now = former.get(TRAINED_ON, {}).get("vocabulary"), corpus.identity.get("vocabulary")
    if then is None and former.data.corpus != "synthetic":  # recorded before that was
        tokenizer: Any = load_tokenizer(former.data.directory)
        then = tokenizer.fingerprint
    if then != now:
        words = [str(one)[:12] if one else "random tokens" for one in (then, now)]
        raise UserError(
            f"--init_from={run} was trained on another vocabulary ({words[0]}) than this run's ({words[1]}): "
            "prepare the data with its vocabulary, or start from new weights"
        )
