"""Curves as pictures, drawn by matplotlib where it is installed."""

import collections
import csv
import importlib.util
import io
import pathlib
import re
from collections.abc import Iterable, Mapping

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.report import Curve
from semdlm_jax.storage import PathLike, check_writable, replacing, write_text

INSTALL = "plots are drawn with matplotlib, which is not installed: pip install -e .[plots]"


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def check_folder(folder: PathLike) -> None:
    """UserError unless plots can be written into this folder, which may be new."""
    if not can_draw():
        raise UserError(f"--plots={folder}: {INSTALL}")
    path = pathlib.Path(folder)
    if path.exists() and not path.is_dir():
        raise UserError(f"--plots={folder} is no folder: give the name of one")
    check_writable((path if path.is_dir() else path.parent) / "plots.csv")


def write_plots(folder: PathLike, report: Mapping) -> None:
    """Every curve of a report (JSON) as SECTION-CURVE.svg, .png and .csv."""
    sections = report["sections"].items()
    curves = [
        (f"{name}-{key}", Curve(**found)) for name, section in sections for key, found in section["curves"].items()
    ]
    write_curves(folder, curves)


def write_curves(folder: PathLike, curves: Iterable[tuple[str, Curve]]) -> None:
    """Curves with their names as NAME.svg, .png and .csv; a name that was taken before gets a number."""
    path, seen = pathlib.Path(folder), collections.Counter()
    path.mkdir(exist_ok=True)
    for name, curve in curves:
        seen[name] += 1
        file = name if seen[name] == 1 else f"{name}-{seen[name]}"
        for kind in ("svg", "png"):
            with replacing(path / f"{file}.{kind}", "wb") as out:
                out.write(draw(curve, kind))
        write_text(path / f"{file}.csv", as_csv(curve))


def file_name(title: str) -> str:
    """A title in small letters, digits and underscores."""
    return re.sub("[^a-z0-9]+", "_", title.lower()).strip("_")[:100]


def as_csv(curve: Curve) -> str:
    """A curve as a table: line, x, y, low, high."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["line", curve.x, curve.y, "low", "high"])
    for name, line in curve.lines.items():
        none = [None] * len(line["x"])
        ends = (line.get(end, none) for end in ("low", "high"))
        rows.writerows(zip([name] * len(none), line["x"], line["y"], *ends, strict=True))
    return text.getvalue()


def draw(curve: Curve, kind: str = "svg") -> bytes:
    """A curve as a picture, 'svg' or 'png'. Needs matplotlib: ask `can_draw`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.6))
    drawn_lines = []
    for line in curve.lines.values():
        known = [i for i, y in enumerate(line["y"]) if y is not None]
        x, y = ([line[end][i] for i in known] for end in "xy")
        (drawn,) = axis.plot(x, y, marker="o" if len(x) < 30 else "", markersize=3)
        drawn_lines.append(drawn)
        if "low" in line and all(line["low"][i] is not None for i in known):
            low, high = ([line[end][i] for i in known] for end in ("low", "high"))
            axis.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2)
    if curve.log_x:
        axis.set_xscale("log")
        places = sorted({x for line in curve.lines.values() for x in line["x"]})
        if len(places) < 12:
            axis.set_xticks(places, [f"{x:g}" for x in places])
            axis.minorticks_off()
    axis.set(title=_plain(curve.title), xlabel=_plain(curve.x), ylabel=_plain(curve.y))
    axis.grid(alpha=0.3)
    if len(curve.lines) > 1:
        axis.legend(drawn_lines, map(_plain, curve.lines), fontsize=8)
    figure.tight_layout()
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "semdlm_jax"}):  # equal curves give equal files
        figure.savefig(picture, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)
    return picture.getvalue()


def _plain(text):
    """A name as matplotlib writes it: dollars are no formulas, and no name is hidden for its first character."""
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text
