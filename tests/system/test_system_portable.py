"""A portable model is its run: the same text and scores anywhere, and anything else in its place is refused."""

import json
import shutil

import numpy as np
import pytest
import tiny

import semdlm_jax as sd
from semdlm_jax import models
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import portable
from semdlm_jax.experiment.load import load_trained


@pytest.fixture(scope="module")
def folder(whole_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "mine"
    result = tiny.command("export", f"--workdir={whole_run}", f"--output={folder}", "--split=valid", "--license=mit")
    assert result.status == 0, result.err
    return folder


@pytest.fixture
def moved(folder, tmp_path, monkeypatch):
    """A copy elsewhere, from where neither the run nor its data are found."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(folder, tmp_path / "copy")


def test_it_is_the_same_model(whole_run, config_file, moved):
    run, copy = sd.load(whole_run), sd.load(moved)
    words = " ".join((config_file.parent / "text.txt").read_text().split()[:40])
    settings = {"num_samples": 3, "steps": 4, "seed": 3, "temperature": 0.7}
    assert copy.generate(**settings).text == run.generate(**settings).text
    assert copy.nelbo(words, draws=2) == run.nelbo(words, draws=2)
    partitions, copied = (model.trained.corpus.vocabulary.partitions for model in (run, copy))
    np.testing.assert_array_equal(copied, partitions)
    assert partitions.max(1).tolist() == [16, 8, 4]
    assert copy.step == run.step and copy.trained.corpus.identity == run.trained.corpus.identity
    with pytest.raises(UserError, match="without the text of its test split"):
        copy.trained.rows("test")
    for refused in ({"checkpoint": "latest"}, {"data_directory": "data"}):
        with pytest.raises(UserError, match="is a portable model, .*: leave out the"):
            sd.load(moved, **refused)


def test_what_is_in_it(folder, config_file):
    """No path of this machine; and the numbers of the card are those of the evaluation."""
    text = "".join(
        path.read_text() for path in (folder / "config.json", folder / "portable.json", folder / "README.md")
    )
    assert str(config_file.parent) not in text and "/tmp" not in text
    card = (folder / "README.md").read_text()
    assert "Recorded in training at step 12: NELBO" in card and "valid: " in card and "license: mit" in card
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_paths_of_ones_own_options_are_cut_too():
    """A key that is not the package's own is an option of a user's plug-in, whose module may not be here."""
    cut = {"data.folder": "/home/me/texts", "data.near": "~/texts", "data.word": "texts/a", "data.count": 3}
    found = {key: portable._anywhere(key, value) for key, value in cut.items()}
    assert found == {"data.folder": "texts", "data.near": "texts", "data.word": "texts/a", "data.count": 3}
    assert portable._anywhere("data.corpus", "text:/home/me/a.txt") == "text:a.txt"


def test_rounded_weights_are_near(whole_run, folder, tmp_path):
    result = tiny.command("export", f"--workdir={whole_run}", f"--output={tmp_path}/half", "--dtype=float16")
    assert result.status == 0, result.err
    whole, half = (load_trained(path).params["embed"]["embedding"] for path in (folder, tmp_path / "half"))
    assert half.dtype == whole.dtype and np.abs(np.asarray(half) - np.asarray(whole)).max() < 1e-3


@pytest.mark.parametrize(
    "name", ["model.safetensors", "portable.json", "config.json", "tokenizer.model", "unigram.npy"]
)
def test_damage_is_told(moved, name):
    contents = (moved / name).read_bytes()
    for damaged in (contents[:-2], contents[:-9] + bytes(9), b""):
        (moved / name).write_bytes(damaged)
        with pytest.raises(UserError, match=f"the portable model in {moved} is damaged"):
            sd.load(moved)
    (moved / name).unlink()
    with pytest.raises(UserError, match="is damaged|it has no portable.json"):
        sd.load(moved)


def test_a_newer_format_is_told(moved):
    manifest = json.loads((moved / "portable.json").read_text())
    (moved / "portable.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(UserError, match="of format 2, and this version reads 1"):
        sd.load(moved)


def test_what_cannot_be_exported(whole_run, folder, tmp_path):
    for given, words in (
        ([f"--workdir={whole_run}", f"--output={folder}"], ("is there already",)),
        ([f"--workdir={folder}", f"--output={tmp_path}/x"], ("is a portable model already",)),
        ([f"--workdir={whole_run}", f"--output={tmp_path}/x", "--checkpoint=7"], ("no checkpoint at step 7",)),
        ([f"--workdir={whole_run}", f"--output={tmp_path}/x", "--checkpoint=bets"], ("give best, latest or a step",)),
        ([f"--workdir={whole_run}", f"--output={tmp_path}/x", "--push_to=me/mine"], ("give hf:me/mine",)),
    ):
        tiny.assert_refused(tiny.command("export", *given), *words)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(whole_run, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    result = tiny.command("export", f"--workdir={whole_run}", f"--output={tmp_path}/mine")
    assert result.status == 1 and "the disk is full" in result.err and list(tmp_path.iterdir()) == []


def test_it_is_not_trained(folder, config_file):
    before = sorted(path.name for path in folder.iterdir())
    refused = tiny.command("train", f"--config={config_file}", f"--workdir={folder}")
    tiny.assert_refused(refused, "is a portable model, which is not trained")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_scoring_needs_a_text(folder, tmp_path):
    (tmp_path / "text.txt").write_text("the state of the union")
    tiny.assert_refused(tiny.command("evaluate", f"--model={folder}"), "without the splits of its data: give --text")
    text = [f"--model={folder}", f"--text={tmp_path}/text.txt"]
    for flag, mend in (
        ("--samples=4", "give --samples=0"),
        ("--scorer=hf:gpt2", "leave --scorer out"),
        ("--measures=frontier", "leave what is about samples out of --measures"),
    ):
        refused = tiny.command("evaluate", *text, flag)
        tiny.assert_refused(refused, f"without text to compare samples with: {mend}")
    result = tiny.command("evaluate", *text, "--draws=1")
    assert result.status == 0 and "bits per byte" in result.out
    corpora = "--measures=zero_shot", f"--corpora=text:{tmp_path}/text.txt"
    named = tiny.command("evaluate", f"--model={folder}", "--draws=1", *corpora)
    assert named.status == 0 and "text:text.txt: bits per byte" in named.out


def test_names():
    assert models.find(models.names()[0]).is_dir()
    with pytest.raises(UserError, match="no folder quickstart-mdml.*did you mean 'quickstart"):
        sd.load("quickstart-mdml")
    tiny.assert_refused(tiny.command("generate", "--model=quickstart-mdml"), "did you mean 'quickstart-mdlm'")
    tiny.assert_refused(tiny.command("generate", "--model=x", "--workdir=y"), "exclude one another")
    tiny.assert_refused(tiny.command("generate"), "--workdir is missing", "quickstart-mdlm")


def test_those_of_the_package():
    """They are whole, and write; their compiled programs are two, so one is enough."""
    loaded = {name: sd.load(name) for name in models.names()}
    assert {name: model.config.kernel.name for name, model in loaded.items()} == {
        "quickstart-mdlm": "absorbing",
        "quickstart-semdlm_plus": "semdlm_plus",
    }
    found = loaded["quickstart-mdlm"].generate("my fellow citizens", num_samples=2, steps=2)
    assert all(text.startswith("my fellow citizens") for text in found.text)


def test_the_hub(folder, tmp_path, monkeypatch):
    """Nothing is sent: what the library is asked to do is looked at."""
    import huggingface_hub

    sent = []

    class Api:
        def create_repo(self, name, exist_ok):
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path):
            sent.append((repo_id, folder_path))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="needs a login"):
        models.check_push("hf:me/mine")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    assert models.push(folder, models.check_push("hf:me/mine")) == "https://hub/me/mine"
    assert sent == [("me/mine", folder)]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: {"me/mine": str(folder)}[name])
    assert models.find("hf:me/mine") == folder
    with pytest.raises(UserError, match="hf:me/other cannot be had"):
        models.find("hf:me/other")
