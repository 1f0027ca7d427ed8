"""Curves as pictures, drawn by matplotlib where it is installed."""

import importlib.util
import io

from semdlm_jax.evaluation.report import Curve

INSTALL = "plots are drawn with matplotlib, which is not installed: pip install -e .[plots]"


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(curve: Curve, kind: str = "svg") -> bytes:
    """A curve as a picture, 'svg' or 'png'. Needs matplotlib: ask `can_draw`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.6))
    for name, line in curve.lines.items():
        known = [i for i, y in enumerate(line["y"]) if y is not None]
        x, y = ([line[end][i] for i in known] for end in "xy")
        (drawn,) = axis.plot(x, y, marker="o" if len(x) < 30 else "", markersize=3, label=name)
        if "low" in line and all(line["low"][i] is not None for i in known):
            low, high = ([line[end][i] for i in known] for end in ("low", "high"))
            axis.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2)
    if curve.log_x:
        axis.set_xscale("log")
    axis.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
    axis.grid(alpha=0.3)
    if len(curve.lines) > 1:
        axis.legend(fontsize=8)
    figure.tight_layout()
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "semdlm_jax"}):  # equal curves give equal files
        figure.savefig(picture, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)
    return picture.getvalue()
