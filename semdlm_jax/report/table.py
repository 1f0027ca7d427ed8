"""A report as text for a terminal."""

import sys
from collections.abc import Mapping, Sequence

from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.likelihood import with_error
from semdlm_jax.evaluation.report import Section
from semdlm_jax.options import counted

CELL = 24  # characters of a column with an interval, and more for a longer name


def table(report: Mapping, names: Sequence[str]) -> str:
    """The named sections of a report (JSON), one below the other."""
    lines = []
    for name in names:
        section = Section.of_json({k: v for k, v in report["sections"][name].items() if k not in ("identity", "of")})
        lines += likelihood_lines(report, section) if name == "likelihood" else section_lines(section)
        lines.append("")
    return "\n".join(lines[:-1])


def section_lines(section: Section) -> list[str]:
    """A section: its protocol, a row for each figure with a column for each group, and what explains them."""
    figures = section.figures.values()
    columns = list(dict.fromkeys(column for figure in figures for column in figure.values))
    rows = [(f.title, [cell(f.values[c]) if c in f.values else "" for c in columns]) for f in figures]
    if len(columns) > 1:
        rows.insert(0, ("", columns))
    width = max(len(title) for title, _ in rows)
    across = [max(CELL, len(column) + 2) for column in columns] if len(columns) > 1 else [CELL]
    lines = [section.title, section.protocol]
    for title, cells in rows:
        lines.append(f"{title:<{width}}" + "".join(f"{text:>{n}}" for text, n in zip(cells, across, strict=True)))
    return lines + [figure.meaning for figure in figures if figure.meaning]


def cell(value: Interval) -> str:
    """'4.275 [4.241, 4.309]', '4.275' or 'n/a'."""
    if value.value is None:
        return "n/a"
    if value.low is None or value.high is None:
        return digits(value.value)
    return f"{digits(value.value)} [{digits(value.low)}, {digits(value.high)}]"


def digits(value: float) -> str:
    """Four or more significant digits."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def likelihood_lines(report: Mapping, section: Section) -> list[str]:
    """The section on the likelihood, in words and with its terms."""
    found = section.details
    scored = "text" if report.get("text") else "split"
    lines = [
        f"{scored:<28}{report['split']}: {found['tokens']:,} tokens in {counted(found['sequences'], 'row')}",
        f"{'protocol':<28}{section.protocol}",
        f"{'NELBO':<28}{with_error(found['nelbo'], found['standard_error'])} nats/token "
        f"(integral {found['integral']:.4f}, prior {found['prior']:.4f}, reconstruction {found['reconstruction']:.4f})",
        f"{'perplexity bound':<28}{_perplexity(found)}",
        f"{'bits per byte':<28}{_bits(found)}",
        f"{'unigram model of train':<28}{found['unigram_cross_entropy']:.4f} nats/token of these tokens (counts + 1)",
        f"{'unigram entropy':<28}{found['unigram_entropy']:.4f} nats/token of these tokens' own counts",
        f"{'unknown tokens':<28}{found['unknown_share']:.3%} of the text",
    ]
    if found["error_over"] != "sequences":
        cause = "over the draws of one row" if found["error_over"] else "unknown from one draw of one row"
        lines.insert(3, f"{'':<28}error {cause}: give more text, or --draws, for a better one")
    elif found["draw_error"] is not None:  # that over sequences sees few of the rare late times with large weights
        noise = f"up to {found['draw_error']:.4f} nats/token: more --draws lessen it"
        lines.insert(3, f"{'noise of the draws':<28}{noise}")
    return lines


def _perplexity(found):
    """The bound on the perplexity, as text."""
    if found["perplexity"] is None:
        return f"above {sys.float_info.max:.1e}"
    return with_error(found["perplexity"], found["perplexity_standard_error"], digits=2)


def _bits(found):
    """The bound in bits per byte, as text."""
    if found["bits_per_byte"] is None:
        return "n/a: the scored tokens contain no text"
    shown = with_error(found["bits_per_byte"], found["bits_per_byte_standard_error"])
    return f"{shown} over {found['scored_bytes']:,} bytes of text"
