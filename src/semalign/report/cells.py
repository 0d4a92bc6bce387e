"""Tables as plain text cells.  This module does not depend on HTML, Markdown or LaTeX."""

from __future__ import annotations

import dataclasses

__all__ = ["Cell", "Column", "Picture", "Row", "Table", "notes_once", "row_of"]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's head, and whether it holds figures."""

    head: str
    numeric: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as a ``data:`` address, and what it shows in words."""

    address: str
    alt: str


@dataclasses.dataclass(frozen=True)
class Cell:
    """The contents of a cell.

    Attributes:
        text: the whole text.
        word: an English verdict, which colors it; "" for none.
        mark: a warning after the text, such as "leaking"; "" for none.
        picture: shown before the text, in the page alone; None for none.
    """

    text: str
    word: str = ""
    mark: str = ""
    picture: Picture | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One row; the first cell is its head."""

    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a caption and notes under it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def row_of(*cells: Cell | str) -> Row:
    """Return a row of cells; a text is a cell without a mark."""
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells))


def notes_once(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """Return the tables with every note under the first of them that has it."""
    said: set[str] = set()
    result = []
    for table in tables:
        result.append(dataclasses.replace(table, notes=tuple(note for note in table.notes if note not in said)))
        said.update(table.notes)
    return tuple(result)
