"""Protocols through the entry points: padding reaches nothing, and reports name what they used."""

import json

import jax
import numpy as np
import pytest
import tiny

from semdlm_jax.data.packing import pack
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.data.protocols import make_rows
from semdlm_jax.evaluation.quality import unigram_entropy
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.experiment.build import build_score
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.runtime.mesh import place_batch


@pytest.fixture(scope="module", params=["padded", "wrapped"])
def run(request, config_file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param) / "run"
    options = ["network.dropout=0.0", "warmup.steps=0", "training.steps=3", f"data.protocol={request.param}"]
    options = [f"--config.{option}" for option in options]
    result = tiny.command("train", f"--config={config_file}", f"--workdir={workdir}", *options)
    assert result.status == 0, result.err
    return workdir


def test_splits_that_are_given(config_file, tmp_path):
    """They replace the corpus of the file, and training reads what was prepared of them alone."""
    lines = (config_file.parent / "text.txt").read_text().split("\n\n")
    for name, part in (("train", lines[:600]), ("valid", lines[600:700]), ("test", lines[700:])):
        (tmp_path / name).write_text("\n".join(part))
    given = [f"--config.data.{split}=lines:{tmp_path}/{split}" for split in ("train", "valid", "test")]
    place = [f"--config={config_file}", f"--config.data.directory={tmp_path}/data"]
    result = tiny.command(
        "data.prepare", *place, *given, "--config.data.tokenizer=bytes", "--config.data.normalize=False"
    )
    assert result.status == 0, result.err
    assert f"test: 1 file of lines:{tmp_path}/test" in result.out
    assert "note: nothing reads data.normalize = False with data.tokenizer = 'bytes'" in result.out
    prepared = open_prepared(tmp_path / "data")
    assert prepared.meta["documents"] == {"train": 600, "valid": 100, "test": 100}
    assert prepared.tokenizer.decode(prepared.splits["test"]) == "".join(lines[700:])
    options = [*place, "--config.data.tokenizer=bytes"]
    result = tiny.command("train", *options, f"--workdir={tmp_path}/run")
    tiny.assert_refused(result, "was prepared with train = 'lines:", "but config.data.train is ''")
    other = [option.replace(str(tmp_path), f"{tmp_path}/../{tmp_path.name}") for option in given]
    tiny.assert_refused(tiny.command("train", *options, *other, "--dry_run"), "semantics.build")  # is missed next
    tiny.assert_refused(
        tiny.command("data.prepare", *options, *given, "--config.data.corpus=sotu"),
        "--config.data.corpus and --config.data.train exclude one another",
    )


def test_scores_name_their_protocol(run, tmp_path):
    name = json.loads((run / "config.json").read_text())["data"]["protocol"]
    for options, words in (
        ([], [f"{name}: "]),
        (["--protocol=packed"], ["packed: windows of 16 tokens", f"trained on {name} rows"]),
    ):
        output = tmp_path / "report.json"
        result = tiny.command("evaluate", f"--workdir={run}", "--samples=0", f"--output={output}", *options)
        assert result.status == 0, result.err
        report = json.loads(output.read_text())
        for word in words:
            assert word in report["sections"]["likelihood"]["protocol"] and word in result.out
        assert np.isfinite(report["sections"]["likelihood"]["details"]["nelbo"])


def test_a_text_file_is_scored_by_its_lines_where_rows_are_documents(run, tmp_path):
    (tmp_path / "text.txt").write_text("ba be\n\nbi bo bu\n")
    output = tmp_path / "report.json"
    options = [f"--text={tmp_path}/text.txt", "--samples=0", "--protocol=padded"]
    result = tiny.command("evaluate", f"--workdir={run}", f"--output={output}", *options)
    assert result.status == 0 and json.loads(output.read_text())["sections"]["likelihood"]["details"]["sequences"] == 2


def test_samples_are_rows_of_the_protocol(run, tmp_path):
    """Begin and end where they belong, a prompt behind the first, and lengths of the corpus where rows have padding."""
    config = json.loads((run / "config.json").read_text())
    prepared = open_prepared(config["data"]["directory"])
    tokenizer, protocol = prepared.tokenizer, config["data"]["protocol"]
    output, trace = tmp_path / "samples.jsonl", tmp_path / "trace.html"
    options = ["--num_samples=12", "--steps=4", "--prompt=ba", f"--output={output}", f"--trace={trace}"]
    result = tiny.command("generate", f"--workdir={run}", *options)
    assert result.status == 0, result.err
    start, sizes = tokenizer.encode("ba").tolist(), set()
    for row in map(json.loads, output.read_text().splitlines()):
        tokens, inner = row["tokens"], row["tokens"][1:-1]
        assert (tokens[0], tokens[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        assert inner[: len(start)] == start and row["text"].startswith("ba")
        ends = [tokenizer.eos_id] if protocol == "wrapped" else []
        assert not np.isin(inner, np.setdiff1d(tokenizer.special_ids, ends)).any()
        sizes.add(len(tokens))
    lengths = np.minimum(np.diff(prepared.starts("train")), 16)
    assert sizes <= set(lengths.tolist()) if protocol == "padded" else sizes == {16}
    assert trace.exists()


def test_samples_are_compared_with_rows_of_the_protocol(run, tmp_path):
    output = tmp_path / "report.json"
    result = tiny.command("evaluate", f"--workdir={run}", "--samples=6", "--protocol=packed", f"--output={output}")
    assert result.status == 0, result.err
    figures = json.loads(output.read_text())["sections"]["generation"]["figures"]
    trained = load_trained(run)
    rows = trained.rows("test")
    entropies = [unigram_entropy([tokens[mask]])[0] for tokens, mask in map(rows.ordered_row, range(rows.count))]
    # Half of the rows, or 256 of them: those of the run's own protocol, whatever is scored.
    error = np.std(entropies) / np.sqrt(min((len(entropies) + 1) // 2, 256))
    assert abs(figures["entropy_nats"]["values"]["heldout"]["value"] - np.mean(entropies)) <= 5 * error + 1e-9
    told = figures["entropy_nats"]["values"]["heldout"]
    if len(entropies) < 3:
        assert told["low"] is None
    else:
        assert told["high"] - told["low"] == pytest.approx(2 * 1.96 * error, rel=0.5, abs=1e-9)


def test_padding_reaches_no_score(run):
    """Whatever the protocol: the last row of any may be short."""
    trained = load_trained(run)
    tokenizer = trained.corpus.prepared.tokenizer
    stream = pack([" ".join(["ba", "be", "bi"] * i) for i in range(8)], tokenizer)
    rows = make_rows("padded", stream, 16, tokenizer)
    tokens, mask = (np.stack(part) for part in zip(*[rows.ordered_row(i) for i in range(8)]))
    assert not mask.all()
    score = build_score(trained.config, trained.denoiser, trained.objective, trained.mesh)
    found = []
    for filler in (rows.pad_id, 7):
        batch = {"tokens": np.where(mask, tokens, filler), "mask": mask, "row": np.arange(8)}
        batch = place_batch(batch | {"uniform": stratified_uniforms(0, 8, 1)}, trained.mesh)
        found.append(score(trained.params, jax.random.key(0), batch, 0))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert found[0].tokens.tolist() == mask.sum(1).tolist()


def test_an_unknown_protocol_is_told(config_file, tmp_path):
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}", "--config.data.protocol=padd")
    tiny.assert_refused(result, "data.protocol = 'padd'", "did you mean 'padded'")
