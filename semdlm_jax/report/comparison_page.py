"""A comparison as text for a terminal, and as a page for a browser."""

import html
from collections.abc import Sequence

from semdlm_jax.report.comparison import Block
from semdlm_jax.report.page import document, grid, lines, plot
from semdlm_jax.report.rows import BEST, BEST_RULE


def text_of(blocks: Sequence[Block]) -> str:
    """The blocks one below the other, without plots."""
    parts = [_text_lines(block) for block in blocks if block.rows]
    rule = [[BEST_RULE]] if _marks(blocks) else []
    return "\n\n".join("\n".join(part) for part in parts + rule)


def _text_lines(block):
    told = [block.title, *block.splits, *block.notes, *block.protocols]
    return [*told, *_table(block.head, block.rows), *block.meanings]


def _table(head, rows):
    """Lines with columns as wide as what is in them."""
    rows = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    first, *others = widths
    return [
        f"{row[0]:<{first}}"
        + "".join(f"  {text:>{width}}" for text, width in zip(row[1:], others, strict=True)).rstrip()
        for row in rows
    ]


def page_of(title: str, blocks: Sequence[Block]) -> str:
    """The blocks as a page that needs neither network nor server."""
    rule = [lines("meaning", [BEST_RULE])] if _marks(blocks) else []
    return document(title, [*map(_html, blocks), *rule])


def _html(block):
    parts = [f"<h2>{html.escape(block.title)}</h2>", lines("note", [*block.splits, *block.notes])]
    parts += [lines("protocol", block.protocols), grid(block.head, block.rows) if block.rows else ""]
    parts += [lines("meaning", block.meanings), *map(plot, block.curves)]
    return "\n".join(filter(None, parts))


def _marks(blocks):
    return any(cell.endswith(BEST) for block in blocks for row in block.rows for cell in row)
