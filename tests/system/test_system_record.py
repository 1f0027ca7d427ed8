"""The record of a run: written once, compared afterwards, brought into today's shape, and never a traceback."""

import copy
import json
import shutil

import pytest
import tiny

from semdlm_jax import config_flag, keys
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import defaults
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.former import EARLIER, upgrade_config
from semdlm_jax.options import flatten
from semdlm_jax.record import read_config, write_config

CONFIG = {"model": {"depth": 4, "name": "small"}, "mesh": {"data": 1}, "betas": (0.9, 0.95), "extra": {}}


def test_config_is_recorded_and_compared(tmp_path):
    workdir = tmp_path / "run"
    write_config(workdir, CONFIG, free=("mesh",))
    recorded = read_config(workdir)
    assert {key: recorded[key] for key in CONFIG} == CONFIG | {"betas": [0.9, 0.95]}
    write_config(workdir, CONFIG | {"mesh": {"data": 8, "fsdp": 2}}, free=("mesh",))
    assert read_config(workdir)["mesh"] == {"data": 1}
    changed = CONFIG | {"model": {"depth": 5, "name": "small"}, "seed": 3, "mesher": 1}
    with pytest.raises(UserError) as error:
        write_config(workdir, changed, free=("mesh",))
    for words in ("model.depth is 5 and was 4", "seed is 3 and was absent", "mesher is 1 and was absent"):
        assert words in str(error.value)
    assert "model.name" not in str(error.value)
    with pytest.raises(UserError, match="betas is absent and was.*key6 is 6 and was absent; and 4 more"):
        write_config(workdir, {f"key{i}": i for i in range(8)})


def test_config_errors(tmp_path):
    for workdir in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="holds no config.json"):
            read_config(workdir)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:20])
    with pytest.raises(UserError, match="not valid JSON"):
        read_config(tmp_path)


# The keys of the first runs.
FIRST = {
    "data": "corpus directory length lowercase vocab_size",
    "semantics": "dimensions max_in_degree min_count neighbours window",
    "kernel": "alpha_min alpha_power beta_max beta_power gamma k_max name",
    "objective": "chunk lambda_changed lambda_same name parameterisation t_max t_min",
    "network": "condition_width dropout dtype expansion heads layers remat tied_output time_conditioning width",
    "optimizer": "b1 b2 clip_norm decay_fraction ema_decay eps final_fraction learning_rate muon_momentum name "
    "schedule warmup_steps weight_decay",
    "training": "batch_size checkpoint_every eval_every keep_latest log_every microbatches steps",
    "mesh": "data fsdp tensor",
    "evaluation": "batch_size chunk sample_steps samples strides valid_batches",
}


def test_every_key_means_something_in_the_first_runs():
    """Whoever adds a key says in EARLIER what runs recorded before it did."""
    first = {section: dict.fromkeys(names.split(), 1) for section, names in FIRST.items()} | {"seed": 0}
    given = copy.deepcopy(first)
    upgraded = flatten(upgrade_config(first))
    assert first == given and upgraded.keys() == keys.KEYS.keys()
    for key, meaning in EARLIER.items():
        keys.KEYS[key].check(key, meaning)
        assert upgraded[key] == meaning
    assert upgraded["semantics.neighbors"] == upgraded["objective.parameterization"] == 1  # renamed since
    today = defaults.get_config().to_dict()
    assert upgrade_config(today) == today


def test_a_former_key_in_a_file_is_told_its_name_of_today():
    config = defaults.get_config().to_dict()
    config["kernel"]["tau"] = 0.5
    with pytest.raises(UserError, match="'kernel.tau': it is called kernel.prior_exponent now"):
        keys.check_config(config)


def test_a_plug_in_may_be_named_with_a_space():
    """As absl takes it; the last one counts."""
    argv = ["--config.kernel.name=one:A", "--config.kernel.name", "two:B", "--config.kernel.names=x"]
    assert config_flag.flag_text(argv, "config.kernel.name") == "two:B"
    assert config_flag.flag_text(argv, "config.kernel.schedule.name") is None


def set_key(record, key, value):
    """Sets a dotted key; `...` deletes it."""
    *sections, name = key.split(".")
    for section in sections:
        record = record[section]
    record[name] = value
    if value is ...:
        del record[name]


DOCUMENTS = ["", "[]", "[1, 2]", "3", '"text"', "null", "true", "NaN", "{}", '{"a.b": 1}', "[" * 100_000, '{"data": ']
ODD = {
    "a section that is a list": ("data", []),
    "a section that is a number": ("kernel", 1),
    "a nested section that is a text": ("kernel.schedule", "linear"),
    "no section": ("network", ...),
    "an empty section": ("training", {}),
    "no key": ("network.width", ...),
    "a key of another type": ("network.width", "wide"),
    "a key that is a section": ("data.length", {"value": 16}),
    "a value out of range": ("network.dropout", -1),
    "a number that is none": ("kernel.gamma", float("nan")),
    "a name with a dot": ("data.x.y", 1),
    "digests that are a list": ("trained_on", ["a"]),
    "a digest that is a number": ("trained_on.vocabulary", 3),
    "a digest of what there is none": ("trained_on.picture", "abc"),
    "a history that is a section": ("history", {}),
    "a parent that is a text": ("parent", "runs/other"),
    "a parent of which nothing is known": ("parent", {}),
    "no steps": ("training.steps", ...),
    "steps that are a text": ("training.steps", "12"),
    "no seed": ("seed", ...),
    "places of nothing": ("places", 3),
}
OF_TRAINING = ("a parent of which nothing is known",)  # who reads a run does not ask for it


def assert_one_sentence(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.fixture
def refused(config_file, tmp_path):
    """Calls that use a run with the record `text`: each is refused in a sentence and changes nothing."""

    def check(text, reading=True):
        path = tmp_path / "config.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}")
        assert result.status == 2 and result.err.count("error: ") == 1, result
        assert "Traceback" not in result.err and len(result.err) < 1500, result.err
        if reading:
            assert_one_sentence(lambda: load_trained(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]

    return check


def test_records_of_any_shape(refused):
    for text in (*DOCUMENTS, b"\xff\xfe\x00"):
        refused(text)


def test_records_that_are_odd_in_one_place(whole_run, refused):
    record = json.loads((whole_run / "config.json").read_text())
    for case, (key, value) in ODD.items():
        odd = copy.deepcopy(record)
        if key == "data.x.y":
            odd["data"]["x.y"] = value
        else:
            set_key(odd, key, value)
        refused(json.dumps(odd), reading=case not in OF_TRAINING)


def test_what_was_changed_by_hand_names_its_file(config_file, whole_run, tmp_path):
    odd = json.loads((whole_run / "config.json").read_text())
    odd["training"]["steps"] = 0
    (tmp_path / "config.json").write_text(json.dumps(odd))
    for module, given in (("train", [f"--config={config_file}"]), ("evaluate", [])):
        result = tiny.command(module, *given, f"--workdir={tmp_path}")
        tiny.assert_refused(result, f"{tmp_path}/config.json: training.steps = 0 is not possible: give a whole number")


def test_a_record_that_is_a_directory_or_lies_below_a_file(config_file, whole_run, tmp_path):
    (tmp_path / "config.json").mkdir()
    result = tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}")
    tiny.assert_refused(result, "config.json cannot be read", "Is a directory")
    tiny.assert_refused(tiny.command("evaluate", f"--workdir={tmp_path}"), "config.json cannot be read")
    shutil.rmtree(tmp_path / "config.json")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_without_a_record_are_nobodys(config_file, whole_run, tmp_path):
    shutil.copytree(whole_run / "checkpoints", tmp_path / "checkpoints")
    tiny.assert_refused(
        tiny.command("train", f"--config={config_file}", f"--workdir={tmp_path}"),
        "no config.json",
        "restore config.json",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
