"""Titled tables of text, as the command line and the documentation show measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Cell", "Columns", "Row", "Table", "markdown_tables", "share_table", "table_of"]

Row: TypeAlias = Mapping[str, Any]
Cell: TypeAlias = Callable[[Row], str]
Columns: TypeAlias = Sequence[tuple[str, Cell]]


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


def table_of(title: str, columns: Columns, rows: Iterable[Row]) -> Table:
    """Return a table of measurements: each column is a title and what it shows of a row.

    >>> table_of("a title", [("what", lambda row: row["name"]), ("ms", lambda row: f"{row['ms']:.1f}")], [
    ...     {"name": "step", "ms": 1.53}])
    Table(title='a title', columns=['what', 'ms'], rows=[['step', '1.5']])
    """
    return Table(title, [name for name, _ in columns], [[show(row) for _, show in columns] for row in rows])


def share_table(title: str, rows: list[Row]) -> Table:
    """Return the table of what text guidance adds, from rows as `semalign.bench.step.text_shares` gives."""

    def milliseconds(kind: str) -> Cell:
        return lambda row: f"{row['ms'][kind]:.1f}"

    def added(part: str) -> Cell:
        return lambda row: f"{100 * row[f'{part}_time']:.1f} ± {100 * row[f'{part}_spread']:.1f}"

    def operations(part: str) -> Cell:
        return lambda row: f"{100 * row[f'{part}_flops']:.1f}"

    columns: Columns = [
        ("model", lambda row: str(row["case"])),
        *((f"{kind} ms", milliseconds(kind)) for kind in ("with text", "text removed", "without")),
        ("cross attention +%", added("attention")),
        ("guidance +%", added("guidance")),
        ("of the operations +%", operations("attention")),
        ("guidance +%", operations("guidance")),
    ]
    return table_of(title, columns, rows)
