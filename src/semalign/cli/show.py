"""What the commands print: tables, progress bars, JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "console",
    "line",
    "percent",
    "print_json",
    "progress_bar",
    "share",
    "table",
]

# Names of classes, arms and files may hold brackets and colons, which must not be read as markup.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""Everything but results goes to stderr, so that stdout can be piped."""


def line(text: str) -> None:
    """Print one line on stderr, however long."""
    console.print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")


def percent(value: float) -> str:
    """Return a fraction as mIoU points, or per cent, with one decimal."""
    return f"{100 * value:.1f}"


def share(value: float) -> str:
    """Return a share of pixels as per cent; what is there is never shown as nothing."""
    return "<0.1" if 0 < value < 0.0005 else percent(value)


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on stderr where that is a terminal; an error takes it away and stands alone."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        try:
            yield bar
        except BaseException:
            bar.live.transient = True
            raise


def table(title: str, columns: list[str], rows: list[list[str]]) -> RenderableType:
    """Return a titled table whose first column is text and whose others are numbers."""
    result = Table()
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        result.add_row(*row)
    # A title of rich's own would be broken to the table's width.
    return Group(Text(title), result)
