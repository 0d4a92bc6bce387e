"""Titled tables of text, as the command line and the documentation show measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Table", "markdown_tables", "share_table"]


class Table(NamedTuple):
    """A title, its columns, and rows of cells; the first column is text, the others are numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def markdown_tables(tables: Iterable[Table]) -> str:
    """Return tables as Markdown.

    >>> print(markdown_tables([Table("a title", ["what", "ms"], [["step", "1.5"]])]))
    **a title**
    <BLANKLINE>
    | what | ms |
    | --- | ---: |
    | step | 1.5 |
    <BLANKLINE>
    """
    parts = []
    for title, columns, rows in tables:
        rule = ["---", *["---:"] * (len(columns) - 1)]
        parts.append("\n".join([f"**{title}**", "", *(_row(cells) for cells in (columns, rule, *rows))]) + "\n")
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def share_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return the table of what text guidance adds, from rows as `semalign.bench.step.text_shares` gives."""
    columns = [
        "model",
        "with text ms",
        "text removed ms",
        "without ms",
        "cross attention +%",
        "guidance +%",
        "of the operations +%",
        "guidance +%",
    ]
    cells = [
        [
            row["case"],
            *(f"{row['ms'][kind]:.1f}" for kind in ("with text", "text removed", "without")),
            f"{100 * row['attention_time']:.1f} ± {100 * row['attention_spread']:.1f}",
            f"{100 * row['guidance_time']:.1f} ± {100 * row['guidance_spread']:.1f}",
            f"{100 * row['attention_flops']:.1f}",
            f"{100 * row['guidance_flops']:.1f}",
        ]
        for row in rows
    ]
    return Table(title, columns, cells)
