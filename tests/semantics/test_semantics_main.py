"""`python -m semdlm_jax.semantics.build` and `semdlm_jax.semantics.inspect`."""

import dataclasses

import jax
import numpy as np
import pytest

from semdlm_jax.semantics import table
from semdlm_jax.semantics.settings import TableSettings
from semdlm_jax.semantics.table import read_table

SETTINGS = {"neighbors": 8, "dimensions": 32, "window": 4, "max_in_degree": 16, "min_count": 10}


@pytest.fixture
def config(prepared, tmp_path):
    settings = dataclasses.asdict(TableSettings(**SETTINGS))
    values = {"data": {"directory": str(prepared.directory)}, "semantics": settings | {"table": ""}}
    path = tmp_path / "config.py"
    path.write_text(f"import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({values})\n")
    return f"--config={path}"


def test_the_table_is_written_beside_the_corpus_or_elsewhere(command, config, prepared, tmp_path):
    first = command("semantics.build", config)
    assert first.status == 0, first.err
    second = command("semantics.build", config, f"--output={tmp_path}/table.npz")
    assert second.status == 0 and second.out.endswith(f"written to {tmp_path}/table.npz\n"), second.err
    beside, elsewhere = read_table(prepared.directory / "neighbors.npz"), read_table(tmp_path / "table.npz")
    assert beside[1:] == elsewhere[1:]
    for one, other in zip(*map(jax.tree.leaves, (beside[0], elsewhere[0])), strict=True):
        np.testing.assert_array_equal(one, other)


def test_flags_change_the_settings(command, config, tmp_path):
    path = tmp_path / "table.npz"
    options = ["--neighbors=5", "--nocenter", "--remove_components=2", "--hubness=none", "--separate_continuations"]
    options += ["--blocks=20,2", "--partition=random"]
    run = command("semantics.build", config, f"--output={path}", *options)
    assert run.status == 0, run.err
    assert "2 blocks of text: " in run.out and "mean cosine of two tokens of a block" in run.out
    found, _, meta = read_table(path)
    assert found.partitions.max(1).tolist() == [20, 2]
    assert found.ids.shape == (700, 5) and meta.items() >= SETTINGS.items() - {("neighbors", 8)}
    changed = {"neighbors": 5, "center": False, "remove_components": 2, "hubness": "none"}
    assert meta.items() >= (changed | {"separate_continuations": True}).items()


def test_what_is_built_can_be_looked_into(command, config, tmp_path):
    path = tmp_path / "table.npz"
    assert command("semantics.build", config, f"--output={path}").status == 0
    run = command("semantics.inspect", path, "Government", "--shown=3", "--hubs=2", "##ing", "--", "<mask>")
    lines = run.out.splitlines()
    assert run.status == 0 and lines[0].startswith(f"{path}: vocabulary ") and lines[0].endswith("embeddings ppmi"), (
        run.err
    )
    assert "Government (government, in " in lines[1] and lines[1].count(",") == 3
    assert "##ing (ing, in " in lines[2] and "<mask>" in lines[3] and "no neighbors" in lines[3]
    assert lines[4].startswith("700 tokens: ") and lines[5].startswith("largest hubs: ") and lines[5].count(",") == 1
    assert lines[6].startswith("unigram prior: ")
    told = [line.split("(")[0].split() for line in lines[7:]]
    for word, place in (("Government", 7), ("##ing", 11), ("<mask>", 15)):
        assert told[place - 7][0] == word and all(
            block[0] in ("block", "special") for block in told[place - 6 : place - 3]
        )
    assert [line.split()[0] for line in lines[19:]] == ["256", *["most"] * 2, *["least"] * 2] + [
        one for level in ("64", "16") for one in (level, *["most"] * 2, *["least"] * 2)
    ]
    command("semantics.inspect", path, "governmint").refused("governmint", "similar pieces are 'government'")


def test_inspecting_an_old_table(command, tmp_path):
    path = tmp_path / "old.npz"
    table.save_table(path, table.Table([[1], [0]], [[1], [1]], [[1], [1]]), "a", {"embeddings": "ppmi"})
    command("semantics.inspect", path).refused("without the pieces", "rebuild")
    notes = table.Notes(("king", "queen"), np.zeros(2), np.ones(2, bool))
    table.save_table(path, table.Table([[1], [0]], [[1], [1]], [[1], [1]]), "a", {"embeddings": "ppmi"}, notes)
    assert "no partitions: give semantics.blocks and build the table again" in command("semantics.inspect", path).out
    command("semantics.inspect", tmp_path / "none.npz").refused("no neighbor table there")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["inspect"], ["no neighbor table is given"]),
        (["inspect", "t.npz", "--shown=0"], ["--shown=0"]),
        (["inspect", "t.npz", "--show=3"], ["unknown flag --show", "'--shown'"]),
        (["build"], ["--config is missing"]),
        (["build", "CONFIG", "king"], ["unexpected argument 'king'"]),
        (["build", "CONFIG", "--hubness=cups"], ["cups", "cap"]),
        (["build", "CONFIG", "--blocks=16,64"], ["semantics.blocks = '16,64'", "whole numbers that fall"]),
        (["build", "CONFIG", "--blocks=400"], ["semantics.blocks = '400'", "at most 347 blocks"]),
        (["build", "CONFIG", "--partition=mean"], ["mean", "kmeans"]),
        (["build", "CONFIG", "--neighbors=0"], ["--neighbors=0"]),
        (["build", "CONFIG", "--output=/nowhere/at/all.npz"], ["--output=/nowhere/at/all.npz"]),
        (["build", "CONFIG", "--config.data.directory=/nowhere"], ["/nowhere", "semdlm_jax.data.prepare"]),
    ],
)
def test_bad_command_lines_are_told(command, config, arguments, words):
    given = [config if argument == "CONFIG" else argument for argument in arguments]
    command(f"semantics.{given[0]}", *given[1:]).refused(*words)


def test_help_names_every_flag(command):
    run = command("semantics.build", "--help")
    for flag in ("--config", "--output", "--embeddings", "--neighbors", "--[no]center", "cap csls none"):
        assert flag in run.out, flag
    assert "--shown" in command("semantics.inspect", "--help").out
