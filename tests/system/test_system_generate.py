"""Generation through its command line: what a seed fixes, what a prompt keeps, what the file holds."""

import concurrent.futures
import dataclasses
import json
import socket

import jax
import numpy as np
import pytest
import tiny

from semdlm_jax import streams
from semdlm_jax.data.conditioning import continue_from
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.generate import generate
from semdlm_jax.generator import PROGRAMS, Generator, make_generator
from semdlm_jax.samplers import Sampler
from semdlm_jax.samplers.presets import make_settings


@pytest.fixture(scope="module")
def tokenizer(config_file):
    return open_prepared(config_file.parent / "data").tokenizer


@pytest.fixture(scope="module")
def prompt(config_file):
    return " ".join((config_file.parent / "text.txt").read_text().split()[:2])


@pytest.fixture(scope="module")
def write(whole_run, prompt, tmp_path_factory):
    """A function (seed, options) -> (the rows of the file, what was printed) of five samples in batches of two."""

    def write(seed, *options):
        output = tmp_path_factory.mktemp("samples") / "samples.jsonl"
        counts = ["--num_samples=5", "--batch_size=2", "--steps=4", "--strides=2"]
        command = [f"--workdir={whole_run}", f"--prompt={prompt}", f"--seed={seed}", f"--output={output}"]
        result = tiny.command("generate", *command, *counts, *options)
        assert result.status == 0, result.err
        return [json.loads(line) for line in output.read_text().splitlines()], result.out

    return write


@pytest.fixture(scope="module")
def samples(write):
    return write(3)


def test_a_prompt_that_is_too_long_is_named(whole_run, prompt, tmp_path):
    (tmp_path / "prompts").write_text(f"{prompt}\n\n{prompt * 9}\n")
    result = tiny.command("generate", f"--workdir={whole_run}", f"--prompts={tmp_path}/prompts")
    tiny.assert_refused(result, f"--prompts={tmp_path}/prompts, line 3, has ", " tokens but the context holds 16")


def test_the_same_seed_gives_the_same_text(write, samples):
    assert write(3)[0] == samples[0]


def test_another_seed_gives_another_text(write, samples):
    rows, _ = write(4)
    assert all(row["text"] != other["text"] for row, other in zip(rows, samples[0]))


def test_samples_differ_from_one_another(samples):
    assert len({row["text"] for row in samples[0]}) == 5


def test_temperature_zero_differs_from_one(write, samples):
    assert write(3, "--temperature=0")[0] != samples[0]


def test_the_file_holds_every_sample_and_its_text(samples, tokenizer):
    rows, printed = samples
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    for row in rows:
        assert len(row["tokens"]) == 16 and tokenizer.decode(row["tokens"]) == row["text"]
        assert row["text"] in printed
        assert (row["step"], row["seed"], row["settings"]["sampler"]) == (12, 3, "ancestral")
    assert "5 samples written" in printed
    again = "repeat it with the same flags and --seed=3 --num_samples=5 --batch_size=2 on 1 device"
    assert f"EMA weights, step 12; {again}" in printed


def test_a_prompt_stays_and_no_special_is_written(samples, tokenizer, prompt):
    given = tokenizer.encode(prompt).tolist()
    assert 0 < len(given) < 16
    for row in samples[0]:
        assert row["tokens"][: len(given)] == given and row["text"].startswith(prompt)
        assert not np.isin(row["tokens"], tokenizer.special_ids).any()


@pytest.fixture
def batches(monkeypatch):
    """Keys of the batches written; the third may be made to fail by an exception appended to its second list."""
    write, keys, failures = Generator.write, [], []

    def counted(self, key, layout):
        keys.append(key)
        if failures and len(keys) == 3:
            raise failures[0]
        return write(self, key, layout)

    monkeypatch.setattr(Generator, "write", counted)
    return keys, failures


def test_what_an_interrupted_run_has_written_stays(whole_run, prompt, samples, batches, tmp_path):
    """Whole lines, beside what an earlier run has left at the place and beside what a later one writes."""
    output = tmp_path / "samples.jsonl"
    output.write_text("earlier\n")
    command = [f"--workdir={whole_run}", f"--prompt={prompt}", "--seed=3", f"--output={output}"]
    command += ["--num_samples=5", "--batch_size=2", "--steps=4", "--strides=2"]
    batches[1].append(KeyboardInterrupt())
    result = tiny.command("generate", *command)
    assert result.status == 130 and "Traceback" not in result.err and output.read_text() == "earlier\n"
    partial = tmp_path / "samples.jsonl.partial"
    assert [json.loads(line) for line in partial.read_text().splitlines()] == samples[0][:4]
    batches[1].clear()
    assert tiny.command("generate", *command).status == 0
    assert [json.loads(line) for line in output.read_text().splitlines()] == samples[0]
    assert len(partial.read_text().splitlines()) == 4


def test_a_reader_that_has_gone_stops_only_what_is_only_shown(whole_run, batches, monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "nobody_reads", lambda: True)
    command = [f"--workdir={whole_run}", "--num_samples=5", "--batch_size=2", "--steps=4", "--strides=2"]
    assert tiny.command("generate", *command).status == 0 and len(batches[0]) == 1
    assert tiny.command("generate", *command, f"--output={tmp_path}/out").status == 0 and len(batches[0]) == 4
    assert len((tmp_path / "out").read_text().splitlines()) == 5


def test_equal_shapes_are_compiled_once(whole_run, tokenizer, prompt, monkeypatch):
    """Whatever else two calls for one model differ in; and a model keeps a few programs, not all."""
    sample, traced = Sampler.sample, []
    monkeypatch.setattr(Sampler, "sample", lambda *args, **options: traced.append(1) or sample(*args, **options))
    trained, settings = load_trained(whole_run), make_settings(steps=4)

    def written(settings, **options):
        return generate(trained, settings, **{"num_samples": 2, **options})[0].tolist(), len(traced)

    first, _ = written(settings)
    assert written(settings) == (first, 1)
    assert written(settings, seed=1)[0] != first
    written(settings, num_samples=4, batch_size=2, conditions=[continue_from(tokenizer, prompt, 16)])
    for changes in ({"temperature": 0.5}, {"grid": "cosine"}, {"t_min": 0.01}, {"strides": 2}, {"greedy_end": True}):
        assert written(dataclasses.replace(settings, **changes))[1] == 1
    assert written(settings, num_samples=3)[1] == 2  # rows
    assert written(settings, num_samples=2)[1] == 2
    penalized = dataclasses.replace(settings, lambda_sem=0.5)
    assert written(penalized)[1] == written(dataclasses.replace(settings, lambda_sem=0.1, lambda_freq=1.0))[1] == 3
    programs = dict(trained.programs)
    for strength in np.linspace(0, 1, PROGRAMS):
        make_generator(trained, settings)  # asked for again and again, so it stays
        make_generator(trained, dataclasses.replace(settings, corrector_strength=float(strength)))
    assert len(trained.programs) == PROGRAMS
    assert [kept for kept in programs.values() if kept in trained.programs.values()] == list(programs.values())
    assert not dataclasses.replace(trained, params=jax.tree.map(np.asarray, trained.params)).programs


def in_two_processes(*command):
    """What two processes of one `generate` give: subprocess's results. command: (flags of the first, of the second)."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        place = f"localhost:{probe.getsockname()[1]}"
    told = [f"--coordinator_address={place}", "--num_processes=2"]
    with concurrent.futures.ThreadPoolExecutor() as both:
        return tuple(
            both.map(
                lambda index: tiny.python("-m", "semdlm_jax.generate", *command[index], *told, f"--process_id={index}"),
                range(2),
            )
        )


def test_two_processes_write_the_text_of_one_and_only_the_first_says_so(whole_run, samples, prompt, tmp_path):
    output = tmp_path / "samples.jsonl"
    command = [f"--workdir={whole_run}", f"--prompt={prompt}", "--seed=3", f"--output={output}"]
    command += ["--num_samples=5", "--batch_size=2", "--steps=4", "--strides=2"]
    first, second = in_two_processes(command, command)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert [json.loads(line) for line in output.read_text().splitlines()] == samples[0]
    assert "5 samples written" in first.stdout and "generate 5" not in second.stderr
    assert [line for line in second.stdout.splitlines() if "[Gloo]" not in line] == []  # which the collectives print
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.jsonl"]
    first, second = in_two_processes(*[[*command, "--tensor=2"]] * 2)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert [json.loads(line) for line in output.read_text().splitlines()] == samples[0]


def test_two_processes_with_other_flags_end_together(whole_run):
    ended = in_two_processes(*([f"--workdir={whole_run}", f"--seed={seed}"] for seed in (3, 4)))
    for one in ended:
        assert one.returncode == 2, one
        told = [line for line in one.stderr.splitlines() if line.startswith("error: ")]
        assert told == [
            "error: the processes of this run differ (process 1: --seed is 4, in process 0 3): start the same command "
            "in each of them, on the same data"
        ]
