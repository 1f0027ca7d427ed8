"""Sampling through the command line: what is given, presets, the autoregressive reference, the page, refusals."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import tiny

from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.errors import UserError
from semdlm_jax.owned import ownership
from semdlm_jax.scorers import make_scorer

COUNTS = ["--num_samples=2", "--steps=4", "--seed=1"]


@pytest.fixture(scope="module")
def tokenizer(config_file):
    return open_prepared(config_file.parent / "data").tokenizer


@pytest.fixture(scope="module")
def words(config_file):
    return (config_file.parent / "text.txt").read_text().split()[:4]


def train(config_file, system, workdir):
    result = tiny.command(
        "train", f"--config={config_file}:{system}", f"--workdir={workdir}", "--config.warmup.steps=0"
    )
    assert result.status == 0, result.err
    return workdir


@pytest.fixture(scope="module")
def masked_run(config_file, tmp_path_factory):
    return train(config_file, "mdlm", tmp_path_factory.mktemp("runs") / "mdlm")


@pytest.fixture(scope="module")
def chain_run(config_file, tmp_path_factory):
    return train(config_file, "ar", tmp_path_factory.mktemp("runs") / "ar")


def write(workdir, tmp_path, *options):
    """The rows of the file."""
    output = tmp_path / "samples.jsonl"
    result = tiny.command("generate", f"--workdir={workdir}", f"--output={output}", *COUNTS, *options)
    assert result.status == 0, result.err
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_prompts_of_a_file_and_a_suffix(whole_run, tokenizer, words, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"{words[0]}\n\n{words[1]} {words[2]}\n")
    rows = write(whole_run, tmp_path, f"--prompts={file}", f"--suffix= {words[3]}")
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    end = tokenizer.encode(words[3]).tolist()
    for row, prompt in zip(rows, 2 * [words[0]] + 2 * [f"{words[1]} {words[2]}"], strict=True):
        start = tokenizer.encode(prompt).tolist()
        assert row["tokens"][: len(start)] == start and row["tokens"][-len(end) :] == end
        assert row["prompt"] == f"{prompt} … {words[3]}"
    assert rows[0]["tokens"] != rows[1]["tokens"]


def test_blanks_are_filled_and_nothing_else_is_changed(whole_run, tokenizer, words, tmp_path):
    rows = write(whole_run, tmp_path, f"--infill={words[0]} [___] {words[1]}")
    first, second = tokenizer.encode(words[0]).tolist(), tokenizer.encode(words[1]).tolist()
    for row in rows:
        tokens = row["tokens"]
        after = len(first) + 3
        assert tokens[: len(first)] == first and tokens[after : after + len(second)] == second
        assert not np.isin(tokens, tokenizer.special_ids).any()


# One of each kind: test_samplers_settings.py makes all of them.
@pytest.mark.parametrize("preset", ["mdlm", "remdm_loop", "sedd_analytic"])
def test_presets_for_masks(masked_run, tokenizer, preset, tmp_path):
    rows = write(masked_run, tmp_path, f"--preset={preset}")
    assert not np.isin([row["tokens"] for row in rows], tokenizer.special_ids).any()


def test_exact_time_tells_how_often_it_asks(masked_run, words, tmp_path):
    output = f"--output={tmp_path / 'samples.jsonl'}"
    options = [output, "--sampler=exact", f"--prompt={words[0]}", "--lambda_freq=0.5", "--top_p=0.9"]
    result = tiny.command("generate", f"--workdir={masked_run}", *COUNTS, *options)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    (asked,) = re.findall(r"^(\d+) network evaluations in 1 batch$", result.err, re.MULTILINE)
    assert result.status == 0 and len(rows) == 2 and 1 < int(asked) < len(rows[0]["tokens"])
    (told,) = re.findall(r"^about (\d+) network evaluations for each batch$", result.err, re.MULTILINE)
    assert abs(int(told) - int(asked)) <= 0.2 * int(asked)  # each of the masks, but for what draws decide


@pytest.mark.parametrize("options", [["--preset=semdlm_plus"], ["--preset=gidd", "--corrections=3"]])
def test_presets_for_noise_that_is_text(whole_run, tokenizer, options, tmp_path):
    rows = write(whole_run, tmp_path, *options, "--corrector_steps=1", "--lambda_sem=0.5", "--window=5", "--top_k=9")
    never = set(tokenizer.special_ids) - {tokenizer.bos_id, tokenizer.eos_id}  # which packed rows may hold
    assert not np.isin([row["tokens"] for row in rows], list(never)).any()


def test_the_autoregressive_reference_is_sampled(chain_run, tokenizer, words, tmp_path):
    options = [f"--prompt={words[0]}", "--top_p=0.9", "--lambda_freq=0.5"]
    rows = write(chain_run, tmp_path, *options)
    start = tokenizer.encode(words[0]).tolist()
    assert all(row["tokens"][: len(start)] == start for row in rows) and rows[0]["tokens"] != rows[1]["tokens"]
    assert not np.isin([row["tokens"] for row in rows], tokenizer.special_ids).any()
    greedy = write(chain_run, tmp_path, *options, "--temperature=0")
    assert greedy[0]["tokens"] == greedy[1]["tokens"]


def test_the_autoregressive_reference_scores_text(chain_run, whole_run, tokenizer, words):
    texts = [" ".join(words[:9]), words[2]]
    scored = make_scorer(f"run:{chain_run}").score(texts)
    assert scored.tokens.tolist() == [len(tokenizer.encode(text)) for text in texts]
    assert 1 < scored.perplexity < 10 * tokenizer.vocab_size and scored.features.shape == (2, 32)
    with pytest.raises(UserError, match=f"run:{whole_run}: its objective .* give a run"):
        make_scorer(f"run:{whole_run}")


def test_the_page_ends_where_the_samples_do(whole_run, tokenizer, tmp_path):
    page = tmp_path / "trace.html"
    rows = write(whole_run, tmp_path, f"--trace={page}", "--trace_samples=1", "--strides=2")
    data = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)[1])
    shown = list(data["initial"][0])
    for change in data["changes"]:
        for place, token in zip(change[0][::2], change[0][1::2], strict=True):
            shown[place] = token
    pieces = [tokenizer.pieces[token].replace("▁", " ") for token in rows[0]["tokens"]]
    assert len(data["changes"]) == 4 and [data["pieces"][token] for token in shown] == pieces


@pytest.mark.parametrize(
    ("run", "options", "says"),
    [
        ("whole_run", ["--infill=nothing to fill"], ["no blank", "[___]"]),
        ("whole_run", ["--suffix=end", "--strides=2"], ["strides = 2", "does not see a suffix", "--strides=1"]),
        ("whole_run", ["--infill=a [_] b", "--preset=semdlm_plus"], ["strides = 2", "follows a blank", "--strides=1"]),
        ("whole_run", ["--sampler=remdm_cap"], ["remdm", "absorbing"]),
        ("whole_run", ["--sampler=sedd_euler"], ["sedd", "only jumps"]),
        ("whole_run", ["--sampler=exact", "--corrector_steps=1"], ["exact has no steps", "corrector_steps"]),
        ("whole_run", ["--sampler=exact", "--strides=4"], ["exact needs two steps", "twice as many steps"]),
        ("whole_run", ["--sampler=blockwise", "--eta=0.1"], ["no option 'eta'", "rho"]),
        ("whole_run", ["--top_p=0"], ["top_p=0.0", "(0, 1]"]),
        ("whole_run", ["--window=-1", "--lambda_sem=1"], ["window=-1", "give a whole number"]),
        ("whole_run", ["--prompt=a", "--infill=b [_]"], ["exclude one another"]),
        ("whole_run", ["--prompts=nowhere.txt"], ["--prompts=nowhere.txt", "cannot be read"]),
        ("whole_run", ["--prompt=漢字"], ["--prompt: the vocabulary knows nothing of '漢字'"]),
        ("whole_run", ["--suffix=\udcff"], ["--suffix is not UTF-8 text"]),
        ("whole_run", ["--trace=nowhere/page.html"], ["--trace=nowhere/page.html", "directory"]),
        ("masked_run", ["--sampler=gidd_correct"], ["gidd_correct", "certain"]),
        ("masked_run", ["--sampler=sedd_euler", "--top_k=3"], ["top_k", "sedd"]),
        ("chain_run", ["--sampler=blockwise"], ["left to right", "sampler"]),
        ("chain_run", ["--infill=a [_] b"], ["only the tokens before"]),
        ("chain_run", ["--trace=page.html"], ["no reverse process", "--trace"]),
    ],
)
def test_what_makes_no_sense_is_refused(request, run, options, says):
    workdir = request.getfixturevalue(run)
    result = tiny.command("generate", f"--workdir={workdir}", *COUNTS, *options)
    tiny.assert_refused(result, *says)
    assert result.out == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told_before_anything_is_shown(whole_run):
    result = tiny.command("generate", f"--workdir={whole_run}", *COUNTS, "--output=/dev/full")
    assert result.status == 1 and result.out == ""
    assert result.err.endswith("error: /dev/full: the disk is full: free space there, or choose another place\n")


def test_one_file_is_not_two(whole_run, tmp_path):
    file = tmp_path / "file"
    file.write_text("prompt\n")
    for first, second in (("output", "trace"), ("output", "prompts"), ("trace", "prompts")):
        result = tiny.command(
            "generate", f"--workdir={whole_run}", f"--{first}={file}", f"--{second}={tmp_path}/./file"
        )
        tiny.assert_refused(result, f"--{first}=", f"--{second}=", "same file")
    assert file.read_text() == "prompt\n"


def test_no_run_and_no_prepared_data_are_written_over(config_file, whole_run, tmp_path):
    """Whichever run is read."""
    data, link = config_file.parent / "data", tmp_path / "link"
    link.symlink_to(data / "train.npy")
    run = "config.json", "metrics.jsonl", "tensorboard/../checkpoints/x", "checkpoints/12/new", ".training.lock"
    files = dict.fromkeys((*data.glob("t*"), data / "meta.json", link), f"belongs to the prepared data in {data}")
    files |= {whole_run / name: f"belongs to the run in {whole_run}" for name in run}
    shutil.copy(data / "neighbors.npz", table := tmp_path / "elsewhere.npz")
    tables = {data / "neighbors.npz", table}  # which semantics.build may replace, and nothing else
    files |= dict.fromkeys(tables, "is a neighbor table")
    before = sorted((path, path.stat().st_mtime_ns) for one in (whole_run, data) for path in one.rglob("*"))
    reader, builder = [f"--workdir={tmp_path}/none"], [f"--config={config_file}"]
    commands = {"generate": (reader, "output", "trace"), "evaluate": (reader, "output")}
    commands["semantics.build"] = builder, "output", "config.semantics.table"
    assert len(files) >= 10
    for path, words in files.items():
        for module, (given, *flags) in commands.items():
            for flag in flags if path not in tables or module != "semantics.build" else ():
                tiny.assert_refused(tiny.command(module, *given, f"--{flag}={path}"), f"--{flag}={path}", words)
    assert sorted((path, path.stat().st_mtime_ns) for one in (whole_run, data) for path in one.rglob("*")) == before
    (tmp_path / "config.json").write_text("[]")
    assert not any(map(ownership, (data / "report.json", whole_run / "report.json", tmp_path / "config.json", "/")))


def test_what_of_a_prompt_is_unknown_is_told(whole_run, words):
    result = tiny.command("generate", f"--workdir={whole_run}", *COUNTS, f"--prompt={words[0]} 漢字 {words[1]}")
    assert result.status == 0
    assert result.err.count("warning: --prompt: 1 of 3 words are unknown to the vocabulary: 漢字") == 1


def test_help_groups_the_flags():
    result = tiny.command("generate", "--help")
    assert result.status == 0
    groups = re.findall(r"^(\w[^\n]*):\n  --", result.out, re.MULTILINE)
    assert groups[:4] == ["run", "what is given", "sampler", "draws"] and "remdm_loop" in groups
    assert "ancestral tau_leaping blockwise" in result.out and "Default: 128." in result.out
