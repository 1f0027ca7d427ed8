"""Runs side by side: what shares a table, what a column is, which value is marked."""

import dataclasses
import math

import pytest
import toy_reports as toy

from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.report import MODEL
from semdlm_jax.report import comparison, rows
from semdlm_jax.report.columns import columns_of, mean_of
from semdlm_jax.report.comparison_page import page_of, text_of


def cells(block, title):
    """{column: cell} of the rows of this title."""
    return [dict(zip(block.head, row, strict=True)) for row in block.rows if row[0] == title]


def sections(*runs, **options):
    return [block for block in comparison.compare(runs, **options) if block.title.startswith("Likelihood")]


def test_runs_stand_side_by_side():
    a, b = toy.run("a", toy.section(3.0)), toy.run("b", toy.section(4.0), kernel__name="uniform")
    (block,) = sections(a, b)
    assert block.head == ["", "a", "b", "shuffled", "better"] and not block.splits
    (row,) = cells(block, "NELBO")
    assert row["a"] == "3.000 [2.900, 3.100] *" and row["b"] == "4.000 [3.900, 4.100]"
    assert row["shuffled"] == "8.000"  # that of the first report
    (curve,) = block.curves
    assert list(curve.lines) == ["a", "b"] and curve.lines["a"]["y"] == [1.0, 2.0]


def test_remarks_name_their_run_where_they_differ():
    one, other = (dataclasses.replace(toy.section(), remarks=("low", name)) for name in ("a", "b"))
    (block,) = sections(toy.run("a", one), toy.run("b", other, x=1))
    assert block.notes == ["a: low", "a: a", "b: low", "b: b"]
    (block,) = sections(toy.run("a", one), toy.run("b", one, x=1))
    assert block.notes == ["low", "a"]


def test_only_what_differs_is_shown_of_configurations():
    a = toy.run("a", toy.section(), kernel__own=1, table_made__window=4)
    b, c = toy.run("b", kernel__name="uniform", metrics=toy.rows()), dataclasses.replace(toy.run("c"), config={})
    block = comparison.config_block([a, b, c])
    found = {row[0]: row[1:] for row in block.rows}
    assert found.pop("kernel.name") == ["absorbing", "uniform", ""] and found.pop("kernel.own") == ["1", "absent", ""]
    assert found == {
        "trained": ["", "5 steps, 40 tokens", ""],
        "checkpoint scored": ["best: 10 steps, 80 tokens", "", ""],
        "parameters": ["1,000", "", ""],
    }
    d = toy.run("d", table_made__window=5)
    assert ["table_made.window", "4", "5"] in comparison.config_block([a, d]).rows  # of tables only where all have one
    assert [note for note in block.notes if note.startswith("c: ")][0].endswith("configuration is not known")


def test_two_protocols_never_share_a_table():
    """Nor a plot; the runs of each are named, and what differs is one sentence."""
    other = toy.section(2.0, comparable={**toy.TEXT, "rows": "wrapped"})
    a, b, c = toy.run("a", toy.section()), toy.run("b", other, x=1), toy.run("c", toy.section(), x=2)
    first, second = sections(a, b, c)
    assert (first.title, second.title) == ("Likelihood: a, c", "Likelihood: b")
    assert first.splits == ["Likelihood: not measured alike, so shown apart: rows: packed (a, c) / wrapped (b)"]
    assert "b" not in first.head and second.head == ["", "b", "shuffled", "better"] and not second.splits
    for shown in (text_of([first, second]), page_of("", [first, second])):
        assert shown.count(first.splits[0]) == 1
    assert first.curves[0].lines.keys() == {"a", "c"} and second.curves[0].lines.keys() == {"b"}
    unnamed = [toy.run(x, toy.section(comparable={}, protocol=f"seed {x}"), x=x) for x in "ab"]
    assert len(sections(*unnamed)) == 2  # all of the protocol, where nothing is named


def test_a_figure_of_other_options_has_a_row_of_its_own():
    value = {MODEL: Interval(0.5, None, None)}
    a = toy.run("a", toy.section(figures={"distinct": (value, {"n": 2})}))
    b = toy.run("b", toy.section(figures={"distinct": (value, {"n": 3}), "novel": (value, {})}), x=1)
    (block,) = sections(a, b)
    assert [(row["a"], row["b"]) for row in cells(block, "distinct")] == [("0.500", ""), ("", "0.500")]
    assert [(row["a"], row["b"]) for row in cells(block, "novel")] == [("", "0.500")]
    texts = [toy.section(comparable={}, figures={"ptb": (value, {"text": "x"})}, protocol=words) for words in "ab"]
    assert (
        len(sections(toy.run("a", texts[0]), toy.run("b", texts[1], x=1))) == 1
    )  # figures alone say what must be equal
    assert block.splits == ["distinct: not measured alike, so shown apart: n: 2 (a) / 3 (b)"]


def test_seeds_are_one_column():
    """Their mean, with Student's t over the spread: t(0.975; 2) = 4.3027 for three."""
    runs = [toy.run(f"mdlm-{i}", toy.section(3.0 + 0.1 * i, y=[i, 2 * i]), seed=i) for i in range(3)]
    other = toy.run("uniform", toy.section(9.0), kernel__name="uniform")
    (block,) = sections(*runs, other)
    (row,) = cells(block, "NELBO")
    reach = 4.302653 * 0.1 / math.sqrt(3)
    assert row["mdlm (seeds 0, 1, 2)"] == f"3.100 [{3.1 - reach:.3f}, {3.1 + reach:.3f}] (n = 3) *"
    line = block.curves[0].lines["mdlm (seeds 0, 1, 2)"]
    assert line["y"] == [1.0, 2.0] and line["high"][1] - line["y"][1] == pytest.approx(4.302653 * 2 / math.sqrt(3))
    (apart,) = sections(*runs, other, by_run=True)
    assert apart.head[1:5] == ["mdlm-0", "mdlm-1", "mdlm-2", "uniform"]
    found = {row[0]: row[1:] for row in comparison.config_block([*runs, other]).rows}
    assert found["seed"] == ["0, 1, 2", "0"]


def test_seeds_are_runs_of_one_configuration():
    """Not those of one seed, of other keys, of other checkpoints, or of unknown configurations."""
    base = toy.run("a", toy.section())
    for other in (
        toy.run("b", toy.section()),
        toy.run("b", seed=1, x=1),
        toy.run("b", toy.section(), seed=1, checkpoint="latest"),
    ):
        assert [column.label for column in columns_of([base, other])] == ["a", "b"]
    unknown = [dataclasses.replace(base, label=label, config={}) for label in "ab"]
    assert [len(column.runs) for column in columns_of(unknown)] == [1, 1]
    pair = [toy.run(label, seed=i) for i, label in enumerate(("run-10", "run-11"))]
    assert [column.label for column in columns_of(pair)] == ["run (seeds 0, 1)"]


def test_mean_of_seeds():
    assert mean_of([Interval(1.0, 0.5, 1.5)]) == (Interval(1.0, 0.5, 1.5), 1)
    assert mean_of([Interval(None, None, None)] * 2) == (Interval(None, None, None), 0)
    found, count = mean_of([Interval(x, None, None) for x in (1.0, 3.0)] + [Interval(None, None, None)])
    assert count == 2 and found == pytest.approx((2.0, 2.0 - 12.7062, 2.0 + 12.7062), rel=1e-5)  # t(0.975; 1)


A, B, WIDE = Interval(1.0, 0.9, 1.1), Interval(2.0, 1.9, 2.1), Interval(3.0, 1.05, 5.0)


@pytest.mark.parametrize(
    ("values", "better", "held_out", "best"),
    [
        ({"a": A, "b": B}, "lower", None, "a"),
        ({"a": A, "b": B}, "higher", None, "b"),
        ({"a": A, "b": B}, "", None, None),
        ({"a": A, "b": A}, "lower", None, None),
        ({"a": A, "b": B, "wide": WIDE}, "lower", None, None),  # the third overlaps, not the second
        ({"a": A, "b": Interval(2.0, None, None)}, "lower", None, None),
        ({"a": A, "b": B, "c": Interval(2.0, None, None)}, "lower", None, None),
        ({"a": A, "b": B, "none": Interval(None, None, None)}, "lower", None, "a"),
        ({"a": A}, "lower", None, None),
        ({"a": A, "b": B}, "near held-out", Interval(1.9, None, None), "b"),
        ({"a": A, "b": B}, "near held-out", Interval(1.5, None, None), None),  # as far below as above
        ({"a": A, "b": B}, "near held-out", Interval(1.9, 1.0, 2.8), None),
        ({"a": A, "b": B}, "near held-out", None, None),
    ],
)
def test_the_best_is_marked_where_no_interval_overlaps(values, better, held_out, best):
    assert rows.best_of(values, better, held_out) == best


def test_learning_curves():
    """Against tokens; validations that differ, and losses of other kinds, share no plot."""
    a, b = (
        toy.run("a", metrics=toy.rows(5.0, 3.9, 4.0)),
        toy.run("b", metrics=toy.rows(6.0, 6.5), kernel__name="uniform"),
    )
    valid, loss = comparison.learning_blocks([a, b])
    assert valid.curves[0].lines["a"] == {"x": [80, 160, 240], "y": [5.0, 3.9, 4.0]}
    assert cells(valid, "valid NELBO, lowest (nats/token)")[0]["b"].startswith("6.000 [5.980")
    assert cells(valid, "valid NELBO, lowest (nats/token)")[0]["a"].startswith("3.900 [3.880, 3.920] *")
    assert cells(valid, "valid NELBO, last (nats/token)")[0]["a"].startswith("4.000 [3.980, 4.020] *")
    assert loss.curves[0].lines["b"] == {"x": [40], "y": [2.0]}
    c = toy.run("c", metrics=toy.rows(3.0), objective__name="d3pm", data__length=8)
    first, second, loss = comparison.learning_blocks([a, b, c])
    assert first.curves[0].lines.keys() == loss.curves[0].lines.keys() == {"a", "b"} and len(loss.curves) == 1
    assert second.curves[0].lines.keys() == {"c"} and "data.length: 4 (a, b) / 8 (c)" in first.notes[0]
    assert "objective.name: nelbo (a, b) / d3pm (c)" in loss.notes[-1]
    assert comparison.learning_blocks([toy.run("d")]) == []


def test_seeds_that_were_validated_at_other_steps_have_lines_of_their_own():
    pair = [toy.run(f"r-{i}", metrics=toy.rows(*[5.0] * (2 - i)), seed=i) for i in range(2)]
    valid, _ = comparison.learning_blocks(pair)
    assert valid.curves[0].lines.keys() == {"r-0", "r-1"} and valid.head[1] == "r (seeds 0, 1)"


@pytest.mark.parametrize("drawn", [True, False])
def test_text_and_page(drawn, monkeypatch):
    """The page says what the terminal does, and has the plots, or their numbers without matplotlib."""
    monkeypatch.setattr("semdlm_jax.report.page.can_draw", lambda: drawn)
    a, b = (
        toy.run("<a>", toy.section(3.0), metrics=toy.rows(5.0)),
        toy.run("b", toy.section(4.0), kernel__name="uniform"),
    )
    blocks = comparison.compare([a, b])
    text, page = text_of(blocks), page_of("Comparison", blocks)
    assert "kernel.name" in text and "3.000 [2.900, 3.100] *" in text and rows.BEST_RULE in text
    assert "<td>3.000 [2.900, 3.100] *</td>" in page and "&lt;a&gt;" in page and "<a>" not in page
    assert page.count("<svg") == (2 if drawn else 0) and ("matplotlib, which is not installed" in page) != drawn
    assert not any(line.endswith(" ") for line in text.splitlines())
