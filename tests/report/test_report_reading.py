"""A report is read as it was written, and whatever else is in its place is told."""

import json

import pytest
import toy_reports as toy

from semdlm_jax.errors import UserError
from semdlm_jax.report.reading import read_report


def test_a_report_is_read_as_written(tmp_path):
    section = toy.section()
    report = read_report(toy.write(tmp_path / "r.json", section))
    assert report.sections == {"likelihood": section} and (report.step, report.parameters) == (10, 1000)


FOREIGN = {
    "no JSON": (b"{", "is not valid JSON: give a work directory"),
    "no text": (b"\xff", "is not valid JSON"),
    "another program's": (b'{"loss": 3}', "is no report of this version: give a work directory"),
    "a list": (b"[1]", "is no report"),
    "another schema": (b'{"schema": "semdlm_jax report 1"}', "reads 'semdlm_jax report 3': write it anew with "),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files(case, tmp_path):
    content, told = FOREIGN[case]
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_report(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["sections"], 3),
        (["sections", "likelihood"], {}),
        (["step"], "ten"),
        (["parameters"], None),
        (["workdir"], 1),
        (["sections", "likelihood", "title"], 1),
        (["sections", "likelihood", "comparable"], []),
        (["sections", "likelihood", "comparable", "of figures"], [1]),
        (["sections", "likelihood", "comparable", "of figures"], {"nelbo": 1}),
        (["sections", "likelihood", "figures", "nelbo", "better"], None),
        (["sections", "likelihood", "figures", "nelbo", "values", "model", "low"], "x"),
        (["sections", "likelihood", "figures", "nelbo", "values", "model", "value"], float("nan")),
        (["sections", "likelihood", "figures", "nelbo", "values", "model", "high"], 10**400),
        (["sections", "likelihood", "curves", "position", "lines", "model", "x"], [1]),
        (["sections", "likelihood", "curves", "position", "lines", "model", "y"], [1, "2"]),
        (["sections", "likelihood", "curves", "position", "lines", "model"], {}),
    ],
)
def test_damage_is_told(place, value, tmp_path):
    path = toy.write(tmp_path / "r.json", toy.section())
    report = json.loads(path.read_text())
    here = report
    for name in place[:-1]:
        here = here[name]
    here[place[-1]] = value
    path.write_text(json.dumps(report))
    with pytest.raises(UserError, match="is damaged|is not valid JSON"):
        read_report(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_report(tmp_path / "none.json")
