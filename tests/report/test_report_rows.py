"""Curves of several runs in one plot."""

import toy_reports as toy

from semdlm_jax.evaluation.report import Curve
from semdlm_jax.report.columns import columns_of
from semdlm_jax.report.rows import overlaid


def line(*y, **more):
    return {"x": list(range(len(y))), "y": list(y), **more}


def test_lines_are_named_by_their_runs_and_controls_are_drawn_once():
    runs = [toy.run("a"), toy.run("b", x=1)]
    lines = {"generated": line(1.0, low=[0.5]), "heldout": line(7.0), "prior": line(2.0)}
    curves = {run: {"steps": Curve("by steps", "steps", "nats", lines, log_x=True)} for run in runs}
    curves[runs[1]] = {"steps": Curve("by steps", "steps", "nats", {**lines, "heldout": line(8.0)}, log_x=True)}
    (plot,) = overlaid(columns_of(runs), curves)
    assert list(plot.lines) == ["a", "heldout", "a: prior", "b", "b: prior"] and plot.log_x
    assert plot.lines["heldout"] == line(7.0) and plot.lines["b"] == line(1.0, low=[0.5])


def test_curves_of_other_axes_share_no_plot():
    runs = [toy.run("a"), toy.run("b", x=1)]
    curves = {run: {"one": Curve("one", x, "nats", {"model": line(1.0)})} for run, x in zip(runs, ["steps", "tokens"])}
    assert [(plot.x, list(plot.lines)) for plot in overlaid(columns_of(runs), curves)] == [
        ("steps", ["a"]),
        ("tokens", ["b"]),
    ]


def test_a_mean_is_drawn_where_all_seeds_have_a_value():
    runs = [toy.run(f"r-{seed}", seed=seed) for seed in (0, 1)]
    curves = {
        run: {"one": Curve("one", "x", "y", {"model": line(i, None if i else 4.0)})} for i, run in enumerate(runs)
    }
    (plot,) = overlaid(columns_of(runs), curves)
    assert plot.lines["r (seeds 0, 1)"]["y"] == [0.5, None]
