"""The notebooks run from their first cell to their last, at toy size: what their cell `# settings` says is replaced."""

import importlib.util
import json
import re
import sys

import pytest
import tiny

from semdlm_jax.kernels import KERNELS

FOLDER = tiny.ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SAMPLING = {"num_samples": 3, "steps": 4, "temperature": 0.7}  # programs that other tests compile, too


@pytest.fixture
def toy(config_file, tmp_path, monkeypatch):
    """{notebook: {name: value} of its settings}."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    spec = importlib.util.spec_from_file_location("toy_config", config_file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    sections = module.get_config().to_dict()
    sections.pop("seed")
    data, words = sections["data"], " ".join((config_file.parent / "text.txt").read_text().split()[:3])
    # As the kernel of the documentation is trained and sampled by another test, whose programs these are.
    own = {"CHANGES": sections | {"training": sections["training"] | {"steps": 8}}, "SHARE": 0.5}
    own |= {"SAMPLING": {"num_samples": 1, "steps": 4}, "PLACE": str(tmp_path / "notebook_kernels.py")}
    place = {"CORPUS": data["corpus"], "DATA": data["directory"], "RUN": str(tmp_path / "run"), "SAMPLING": SAMPLING}
    monkeypatch.setitem(KERNELS, "less_drift", None)  # and gone again afterwards
    monkeypatch.delitem(sys.modules, "notebook_kernels", raising=False)
    return {
        "train_and_sample": place | {"CHANGES": sections, "PROMPT": words},
        "kernels": {"NAMES": ("semdlm_plus",), "POINTS": 3, "TIMES": (0.4,), "ROWS": 2},
        "your_own_kernel": place | own,
        "evaluate_and_compare": {"DRAWS": 1, "SAMPLING": {"num_samples": 2, "steps": 2}},
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, toy, capsys, monkeypatch):
    import matplotlib.pyplot

    matplotlib.use("agg")
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    space = {}
    assert code[0].startswith("%pip") and code[1].startswith("# settings")
    for source in code[1:]:
        exec(compile(source, name, "exec"), space)
        if source.startswith("# settings"):
            assert toy[name].keys() <= space.keys()
            space |= toy[name]
    matplotlib.pyplot.close("all")
    out = capsys.readouterr().out
    told = {
        "train_and_sample": r"nats/token over \d+ tokens",
        "kernels": r"semdlm_plus: NELBO .*, slack \+",
        "your_own_kernel": r"share 0\.5",
        "evaluate_and_compare": r"quickstart-mdlm: shuffled",
    }
    assert re.search(told[name], out), out


@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_without_outputs(name):
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    assert f"blob/main/docs/notebooks/{name}.ipynb" in "".join(cells[0]["source"])
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
