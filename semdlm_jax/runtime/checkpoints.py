"""Checkpoints that survive damage, and the configuration a work directory belongs to. The only orbax import."""

import contextlib
import functools
import json
import math
import os
import sys
from pathlib import Path

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import integrity
from semdlm_jax.runtime.paths import path_text

policies = ocp.checkpoint_managers

# Orbax stamps the commit time into this file after the seal is made; a restore does not need it.
UNSEALED = ("_CHECKPOINT_METADATA",)
# Where orbax keeps a checkpoint's metrics, read for every checkpoint as soon as its manager is built.
METRICS = "metrics/"
CONFIG = "config.json"
NAMED_DIFFERENCES = 8


class Checkpointer:
    """The checkpoints of one run under `directory`/<step>: the latest `keep_latest`, and the best by `best_metric`.

    `best_metric` names the entry of save's `metrics` that ranks checkpoints, lower is better; None keeps only the
    latest. Every file is sealed with its size and checksum before a checkpoint gets its final name, so a checkpoint is
    either whole or found out. `report(line)` tells of one that is damaged (default: a line on stderr). In a run of
    several processes all of them call every method; process 0 checks and renames.
    """

    def __init__(self, directory, keep_latest=2, best_metric=None, report=None):
        if keep_latest < 1:
            raise UserError(f"keeping {keep_latest} checkpoints makes no resume possible: give 1 or more")
        self._directory = Path(directory).absolute()
        self._keep_latest, self._best_metric = keep_latest, best_metric
        self._report = report or (lambda line: print(line, file=sys.stderr))
        self._saving = None

    @functools.cached_property
    def _manager(self):
        """Built on first use: asking a directory that does not exist must not create it."""
        for step in _on_process_0(self._damaged_metrics):  # orbax would fail to open
            self._set_aside(step, "its metrics are damaged")
        keep = [policies.LatestN(self._keep_latest)]
        if self._best_metric:
            keep.append(policies.BestN(get_metric_fn=self._rank, reverse=True, n=1))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keep),
            best_fn=self._rank if self._best_metric else None,  # makes orbax write metrics at all
            best_mode="min",
            # Called on process 0 once all files are there and before the directory gets its final name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        return ocp.CheckpointManager(self._directory, options=options)

    def save(self, step, state, data_iterator=None, metrics=None):
        """Starts to save `state` and the Grain iterator's position; returns once the state may be donated.

        A step already on disk is left as it is. An error of the save before is raised here (or by wait, close).
        """
        self.wait()
        step = int(step)
        if step in self._manager.all_steps():
            return
        metrics = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        items = {"state": ocp.args.StandardSave(state)}
        if data_iterator is not None:
            items["data"] = grain.checkpoint.CheckpointSave(data_iterator)
        self._saving = step
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def _rank(self, metrics):
        return (metrics or {}).get(self._best_metric, math.inf)

    def _seal(self):
        for folder in self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
            integrity.seal(folder, exclude=UNSEALED)

    def restore(self, abstract_state, data_iterator=None, step="latest"):
        """(state, step) of the checkpoint `step` ('latest', 'best' or a number), or None where nothing was ever saved.

        `abstract_state` is a tree of ShapeDtypeStructs whose shardings say where the arrays go: the mesh may differ
        from the one that saved, and so may the number of processes. `data_iterator`, when given, is moved to the saved
        position. A damaged checkpoint is reported, renamed to '<step>.corrupt', and the one before it (the next best)
        is tried. UserError when none is intact, when `step` is not there, or when an intact one does not fit
        `abstract_state`.
        """
        candidate = self._intact(step)
        return None if candidate is None else (self._read(candidate, abstract_state, data_iterator), candidate)

    def read_array(self, path, step="latest"):
        """The one array of the state at `path` ('ema_params/embed/embedding'), on the host, without reading the rest.

        The checkpoint is found as by `restore`, and so are the errors; None where nothing was ever saved. UserError
        when the state holds no such array.
        """
        candidate = self._intact(step)
        if candidate is None:
            return None
        folder = self._directory / str(candidate) / "state"
        known = _shapes(ocp.PyTreeCheckpointHandler().metadata(folder).tree)
        if path not in known:
            raise UserError(f"checkpoint {folder.parent} holds no {path}: it is of another kind of model")
        tree = ocp.RestoreArgs(restore_type=np.ndarray)
        for name in reversed(path.split("/")):
            tree = {name: tree}
        wanted = ocp.args.PyTreeRestore(item=jax.tree.map(lambda _: 0, tree), restore_args=tree, partial_restore=True)
        with ocp.PyTreeCheckpointer() as checkpointer:
            (array,) = jax.tree.leaves(checkpointer.restore(folder, args=wanted))
        return array

    def _intact(self, step):
        """The step of the first undamaged candidate, None where nothing was ever saved. UserError as in `restore`."""
        if not self._directory.is_dir():
            return None
        self.wait()
        candidates = self._candidates(step)
        for candidate in candidates:
            if problem := _on_process_0(lambda: integrity.damage(self._directory / str(candidate))):
                self._set_aside(candidate, problem)
                self._manager.reload()
            else:
                return candidate
        if candidates or list(self._directory.glob("*.corrupt*")):
            raise UserError(f"no intact checkpoint is left in {self._directory}: delete it to start anew")
        return None

    def _candidates(self, step):
        """The steps to try, in order."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step == "latest":
            return steps
        if step == "best":
            if not self._best_metric:
                raise UserError("no best checkpoint is tracked: name the metric that ranks them, or ask for the latest")
            rank = {one: self._rank(self._manager.metrics(one)) for one in steps}
            ranked = sorted((one for one in steps if rank[one] < math.inf), key=rank.get)
            if steps and not ranked:
                raise UserError(f"no checkpoint in {self._directory} has a {self._best_metric!r}: ask for the latest")
            return ranked
        if step not in steps:
            there = ", ".join(map(str, reversed(steps))) or "none"
            raise UserError(f"no checkpoint at step {step} in {self._directory}: there are {there}")
        return [step]

    def _read(self, step, abstract_state, data_iterator):
        folder = self._directory / str(step)
        # Orbax would say the same in many lines, and leave half-done reads behind.
        there, here = _shapes(ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree), _shapes(abstract_state)
        if differing := _differences(here, there):
            raise UserError(f"checkpoint {folder} is of another model or optimizer ({differing}): use its config")
        try:
            if data_iterator is not None:
                _move(data_iterator, folder / "data")
            items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            return self._manager.restore(step, args=items).state
        except (ValueError, KeyError, FileNotFoundError) as error:  # the files are intact, so the request is at fault
            cause = " ".join(str(error).split())[:200]
            raise UserError(
                f"checkpoint {folder} does not fit this data pipeline or number of processes ({cause}):"
                " use the configuration it was saved with"
            ) from error

    def _damaged_metrics(self):
        steps = [path for path in self._directory.glob("[0-9]*") if path.name.isdigit()]
        return [int(path.name) for path in steps if (path / METRICS).exists() and integrity.damage(path, METRICS)]

    def _set_aside(self, step, problem):
        """Renames a checkpoint so that it is neither listed nor overwritten."""
        folder = self._directory / str(step)
        names = (folder.with_name(f"{step}.corrupt{suffix}") for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
        if jax.process_index() == 0:
            aside = next(name for name in names if not name.exists())
            self._report(f"checkpoint {folder} is damaged ({problem}): set aside as {aside.name}")
            with contextlib.suppress(OSError):  # a reader without the right to rename still gets the one before
                os.rename(folder, aside)
        _barrier(f"set aside {step}")

    def wait(self):
        """Blocks until the save under way is on disk."""
        if "_manager" in self.__dict__:
            self._manager.wait_until_finished()

    def close(self):
        """Waits, then releases orbax's threads."""
        if "_manager" in self.__dict__:
            self._manager.close()


def _move(iterator, folder):
    """Moves a Grain iterator to the position saved in `folder`. It is the same on all processes, so where another
    number of them saved it, process 0's serves. ValueError: none there, or of another pipeline."""
    own = folder / f"process_{jax.process_index()}-of-{jax.process_count()}.json"
    path = own if own.exists() else next(iter(sorted(folder.glob("process_0-of-*.json"))), None)
    if path is None:
        raise ValueError(f"no position in the data was saved in {folder}")
    iterator.set_state(json.loads(path.read_text()))
    iterator.start_prefetch()


def _on_process_0(compute):
    """The JSON value of `compute()`, evaluated on process 0 only: all must take the same decision."""
    if jax.process_count() == 1:
        return compute()
    text = json.dumps(compute()).encode() if jax.process_index() == 0 else b""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(text.ljust(length), np.uint8))))


def _barrier(name):
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def write_config(workdir, config_dict, free=()):
    """Records the nested dict `config_dict` as `workdir`/config.json, or compares it with the one recorded before.

    Returns what is recorded: the first record stays as it is. UserError naming each key whose value differs; keys equal
    to or below a dotted prefix in `free` may differ.
    """
    workdir = Path(workdir)
    config = json.loads(json.dumps(config_dict))  # tuples become lists, as in the file
    path = workdir / CONFIG
    if not path.exists():
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(config, indent=2) + "\n")
            os.replace(temporary, path)
        return config
    recorded = read_config(workdir)
    if differing := _differences(_flatten(config), _flatten(recorded), free):
        raise UserError(f"{workdir} holds a run of another config ({differing}): go back to it or use another workdir")
    return recorded


def read_config(workdir):
    """The nested dict recorded in `workdir`/config.json. UserError when there is none or it cannot be read."""
    path = Path(workdir) / CONFIG
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{workdir} holds no {CONFIG}: give the work directory of a training run") from None
    except ValueError:
        raise UserError(f"{path} is not valid JSON: restore it, or use another workdir") from None


def _flatten(tree, prefix=""):
    """{'a.b': value} of nested dicts; an empty dict is a value."""
    flat = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        flat.update(_flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat


def _shapes(tree):
    """{path: shape} of a tree of arrays or their descriptions."""
    return {path_text(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _differences(here, there, free=()):
    """'a.b is 1 and was 2; …' over two flat dicts, leaving out keys at or below a dotted prefix in `free`."""

    def shown(flat, key):
        return json.dumps(flat[key]) if key in flat else "absent"

    differing = [
        f"{key} is {shown(here, key)} and was {shown(there, key)}"
        for key in sorted(here.keys() | there.keys())
        if shown(here, key) != shown(there, key) and not any(f"{key}.".startswith(f"{prefix}.") for prefix in free)
    ]
    more = len(differing) - NAMED_DIFFERENCES
    return "; ".join(differing[:NAMED_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
