"""What a run has written: its metrics, its TensorBoard events, its checkpoints."""

import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tensorboardX.proto.event_pb2 import Event

from semdlm_jax.experiment.build import build_denoiser, build_mesh, build_optimizer, shard_rule
from semdlm_jax.experiment.data import build_run_data, train_iterator
from semdlm_jax.experiment.load import make_reader
from semdlm_jax.record import read_config
from semdlm_jax.runtime.state import abstract_state

TIMED = ("time", "train/tokens_per_second", "train/teraflops_per_second", "train/mfu")  # different in every run


def rows(workdir: Path) -> list[dict]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def untimed(workdir: Path) -> list[dict]:
    """The same rows without values that depend on time."""
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows(workdir)]


def points(workdir: Path) -> tuple[list[tuple[int, str, float]], list[int]]:
    """[(step, name, value)] of the TensorBoard events on disk, and the steps from which runs continued."""
    found, begun = [], []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):  # records: length u64, its crc u32, bytes, their crc u32
            size = int.from_bytes(content[at : at + 8], "little")
            if at + 16 + size > len(content):  # incomplete, because the run was killed
                break
            event = Event.FromString(content[at + 12 : at + 12 + size])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            begun += [event.step] if event.HasField("session_log") else []
            at += 16 + size
    return found, begun


def counted_points(workdir: Path) -> tuple[int, int]:
    """(how many of the numbers in metrics.jsonl are also in the event files, how many there are)."""
    found = set(points(workdir)[0])
    wanted = [
        (row["step"], name, float(np.float32(value)))
        for row in rows(workdir)
        for name, value in row.items()
        if name not in ("step", "time") and value is not None
    ]
    return sum(point in found for point in wanted), len(wanted)


def steps_on_disk(workdir: Path) -> list[int]:
    """The steps of the checkpoints of a run."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def end_of(workdir: Path) -> tuple[int, list[np.ndarray]]:
    """(step, arrays) of the latest checkpoint: parameters, average, moments, and the next batch."""
    config = ConfigDict(read_config(workdir))
    corpus = build_run_data(config)
    denoiser, (optimizer, _) = build_denoiser(config, corpus), build_optimizer(config)
    abstract = abstract_state(denoiser.init, optimizer, shard_rule(build_mesh(config)))
    iterator = train_iterator(config, corpus)
    state, step = make_reader(workdir).restore(abstract, iterator)
    return step, [*map(np.asarray, jax.tree.leaves(state)), next(iterator)["tokens"]]
