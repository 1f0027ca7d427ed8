"""A report as a page: one file that needs neither network nor server."""

import html
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.report import Curve, Figure, Section
from semdlm_jax.report.plots import INSTALL, can_draw, draw
from semdlm_jax.report.table import cell
from semdlm_jax.storage import PathLike, write_text

TITLE = "Report on "
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.protocol { color: #555; } .note { color: #8a4b00; } .meaning { color: #555; font-size: 13px; margin: .2em 0; }
"""


def check_page(path: PathLike) -> None:
    """UserError if there is a file at the place of a report's page that is none: no flag has named it."""
    place = pathlib.Path(path)
    if place.is_file() and TITLE not in place.read_bytes()[:1000].decode(errors="replace"):
        raise UserError(f"{path}, where the page of the report goes, is another file: give --output another name")


def write_page(path: PathLike, report: Mapping) -> None:
    """Writes the page of a report (JSON); it appears whole or not at all."""
    told = {"model": report["workdir"], "step": report["step"], "text": report["split"], "seed": report["seed"]}
    sections = [Section.of_json(_bare(section)) for section in report["sections"].values()]
    write_text(path, page(f"{TITLE}{report['workdir']}", told, sections))


def _bare(section):
    return {name: value for name, value in section.items() if name not in ("identity", "of")}


def page(title: str, told: Mapping[str, object], sections: Iterable[Section]) -> str:
    """A page of sections. told: shown first, as names and values."""
    facts = grid(["", ""], [[name, str(value)] for name, value in told.items()])
    return document(title, [facts, *map(section_html, sections)])


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page of pieces of HTML."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def section_html(section: Section) -> str:
    """A section: its figures, its plots, and the words that explain them."""
    figures = list(section.figures.values())
    columns = list(dict.fromkeys(column for figure in figures for column in figure.values))
    parts = [f"<h2>{html.escape(section.title)}</h2>", lines("protocol", [section.protocol])]
    parts.append(grid(["", *columns, "better"], [_row(figure, columns) for figure in figures]))
    parts.append(lines("meaning", [figure.meaning for figure in figures if figure.meaning]))
    parts.append(lines("note", section.remarks))
    parts += [plot(curve) for curve in section.curves.values()]
    return "\n".join(filter(None, parts))


def _row(figure: Figure, columns):
    cells = [cell(figure.values[column]) if column in figure.values else "" for column in columns]
    return [figure.title, *cells, figure.better]


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table."""
    body = ["<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows]
    top = "<tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head) + "</tr>" if any(head) else ""
    return f"<table>{top}{''.join(body)}</table>"


def plot(curve: Curve) -> str:
    """A curve as a picture in the page; as a table where matplotlib is missing."""
    if can_draw():
        picture = draw(curve).decode()
        return picture[picture.index("<svg") :]
    rows = [[name, str(x), "" if y is None else f"{y:.4f}"] for name, x, y in points(curve)]
    return f"<h3>{html.escape(curve.title)}</h3>" + lines("note", [INSTALL]) + grid(["", curve.x, curve.y], rows)


def points(curve: Curve) -> list[tuple[str, float, float | None]]:
    """(line, x, y) of every point."""
    return [(name, *point) for name, line in curve.lines.items() for point in zip(line["x"], line["y"], strict=True)]


def lines(kind: str, texts: Iterable[str]) -> str:
    """Paragraphs of a kind that STYLE has: protocol, note or meaning."""
    return "".join(f'<p class="{kind}">{html.escape(text)}</p>' for text in texts)
