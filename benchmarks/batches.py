"""Checks that a likelihood does not depend on how its rows are batched, ordered or distributed over processes.

    python -m benchmarks.batches --runs=mdlm=runs/mdlm,semdlm_plus=runs/plus --text=letter.txt

Scores one text under every protocol: in one batch of its R rows, in batches of 64 and of 1,000 (mostly padding rows),
with its rows in another order, and on two processes that share the rows. The times and the noise of a row depend on its
index. The results of the three batch sizes and of two processes therefore agree up to rounding. In another order the
rows get other times, so that result agrees only within the error of the draws: `z` is the difference divided by this
error. Columns: nats per token.
"""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import numpy as np
from absl import flags

from benchmarks.runs import read_runs
from semdlm_jax import cli
from semdlm_jax.data.files import read_text
from semdlm_jax.data.protocols import PROTOCOLS, Rows, make_rows
from semdlm_jax.errors import UserError
from semdlm_jax.evaluate import encode
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.scores import score_rows


@dataclasses.dataclass(frozen=True)
class Reordered:
    """Rows in another order. order: [N], the index that each had before."""

    rows: Rows
    order: np.ndarray

    def __getattr__(self, name):
        return getattr(self.rows, name)

    def ordered_row(self, index):
        return self.rows.ordered_row(self.order[index])


def on_processes(count, arguments):
    """The report of `evaluate`, run on `count` processes of this machine, a device each. UserError if one fails."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("localhost", 0))
        shared = {"JAX_COORDINATOR_ADDRESS": f"localhost:{probe.getsockname()[1]}", "JAX_NUM_PROCESSES": str(count)}
        probe.close()
        output = pathlib.Path(folder) / "report.json"
        command = [sys.executable, "-m", "semdlm_jax.evaluate", *arguments, "--samples=0", f"--output={output}"]
        workers = [
            subprocess.Popen(
                command, env=os.environ | shared | {"JAX_PROCESS_ID": str(index)}, stdout=subprocess.DEVNULL
            )
            for index in range(count)
        ]
        ended = [worker.wait() for worker in workers]  # waits for all, also after one has failed
        if any(ended):
            raise UserError(f"`{' '.join(command)}` failed on {count} processes: see its error above")
        return json.loads(output.read_text())["sections"]["likelihood"]["details"]["nelbo"]


def compare(name, workdir, options):
    """Markdown rows, one for each protocol."""
    trained = load_trained(workdir, "latest")
    tokenizer = trained.corpus.prepared.tokenizer
    for protocol, kind in PROTOCOLS.items():
        tokens = encode(read_text(options.text), tokenizer, by_line=kind.padded)
        rows = make_rows(protocol, tokens, trained.config.data.length, tokenizer)
        count = rows.ordered_count
        found = [
            score_rows(trained, rows, draws=options.draws, batch_size=size, seed=options.seed)[0]
            for size in (count, 64, 1000)
        ]
        other = Reordered(rows, np.random.default_rng(options.seed + 1).permutation(count))
        shuffled = score_rows(trained, other, draws=options.draws, batch_size=64, seed=options.seed)[0]
        flagged = {"workdir": workdir, "checkpoint": "latest", "text": options.text, "protocol": protocol}
        flagged |= {"draws": options.draws, "batch_size": 64, "seed": options.seed}
        spread = on_processes(2, [f"--{flag}={value}" for flag, value in flagged.items()])
        error = found[0].draw_error
        z = (shuffled.nelbo - found[0].nelbo) / np.hypot(error, shuffled.draw_error)
        numbers = [f"{one.nelbo:.5f}" for one in found] + [f"{spread:.5f}", f"{shuffled.nelbo:.5f}"]
        yield f"| {name} | {protocol}, {count} rows | {' | '.join(numbers)} | {error:.3f} | {z:+.1f} |"


def main(options):
    if options.draws < 2:
        raise UserError(f"--draws={options.draws} leaves the error of the draws unknown: give 2 or more")
    print("| run | rows | batch of R | 64 | 1,000 | two processes | shuffled | error of the draws | z |")
    print("| --- | --- " + "| ---: " * 7 + "|")
    for name, workdir in read_runs(options.runs).items():
        for line in compare(name, workdir, options):
            print(line, flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("runs", None, "NAME=WORKDIR pairs of finished runs, separated by commas.")
    flags.DEFINE_string("text", None, "A UTF-8 text file of a few dozen rows.")
    flags.DEFINE_integer("draws", 8, "Times and corruptions of a row.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed of times and noise.", lower_bound=0)
    cli.run(lambda: main(flags.FLAGS), required=["runs", "text"])
