"""Plots: the names of runs are anybody's."""

import pytest

from semdlm_jax.evaluation.report import Curve
from semdlm_jax.report.plots import draw

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("name", ["a$_{$", "$x^{", "_run", "<script>"])
def test_names_are_drawn_as_they_are(name):
    """A dollar starts no formula, which need not be one, and an underscore hides no line from the legend."""
    line = {"x": [1, 2], "y": [1.0, 2.0]}
    picture = draw(Curve("title", "x", "y", {name: line, "another": line}, log_x=True)).decode()
    assert picture.count("<!-- another -->") == 1
    assert name in picture.replace("&lt;", "<").replace("&gt;", ">")
