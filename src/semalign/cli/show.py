"""How the commands print: in the language of the console, tables, progress bars, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from semalign.errors import ConfigError
from semalign.wording import LANGUAGES, Catalogue, Language, check_language

__all__ = [
    "LANGUAGE_VARIABLE",
    "Task",
    "console",
    "console_language",
    "line",
    "print_json",
    "print_notes",
    "print_scores",
    "print_table",
    "task",
]

LANGUAGE_VARIABLE = "SEMALIGN_LANG"
"""Environment variable that names the language of the console: en (default) or zh."""

# Names of classes, arms and files may hold brackets and colons, which must not be read as markup.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""Everything but results goes to stderr, so that stdout can be piped."""


def console_language(lang: str | None = None) -> Language:
    """Return the language that the commands print in: ``--lang`` where it is given, else that of the environment.

    Raises:
        ConfigError: an unknown language.
    """
    if lang is not None:
        return check_language(lang)
    named = os.environ.get(LANGUAGE_VARIABLE) or "en"
    if named not in LANGUAGES:
        raise ConfigError(f"{LANGUAGE_VARIABLE} got {named!r}, expected one of {', '.join(LANGUAGES)}")
    return check_language(named)


def line(text: str) -> None:
    """Print one line on stderr, however long."""
    console.print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")


def print_notes(words: Catalogue, notes: Iterable[Any]) -> None:
    """Print what a reader must know, one line a note, on stderr."""
    for note in notes:
        line(words("console.note", text=note))


def print_table(words: Catalogue, key: str, rows: Iterable[list[str]], columns: Iterable[str], **values: Any) -> None:
    """Print a table on stderr whose title is the sentence ``key``; each of ``columns`` is a key of the catalogue."""
    console.print(table(words(key, **values), [words(column) for column in columns], rows))


def table(title: str, columns: Iterable[str], rows: Iterable[list[str]]) -> RenderableType:
    """Return a titled table whose first column is text and whose others are numbers."""
    result = Table()
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        result.add_row(*row)
    # A title of rich's own would be broken to the table's width.
    return Group(Text(title), result)


def print_scores(words: Catalogue, miou: float, iou: dict[str, float], title: str) -> None:
    """Print IoUs in [0, 1] by class and their mean as percent, on stderr."""
    rows = [[name, f"{100 * value:.1f}"] for name, value in (*iou.items(), (words("console.mean"), miou))]
    console.print(table(title, [words("console.class"), "IoU %"], rows))


class Task:
    """A line of the progress bar."""

    def __init__(self, bar: Progress, what: str) -> None:
        self._bar = bar
        self._id = bar.add_task(what, total=None, note="")

    def begin(self, what: str, total: int | None = None) -> None:
        """Change what is being done."""
        self._bar.update(self._id, description=what, total=total, note="")

    def count(self, done: int, total: int) -> None:
        """Show how much is done."""
        self._bar.update(self._id, completed=done, total=total)

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        self._bar.update(self._id, note=text)


@contextlib.contextmanager
def task(what: str) -> Iterator[Task]:
    """Show a progress bar on stderr where that is a terminal; an error removes it and is printed alone."""
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
            yield Task(bar, what)
        except BaseException:
            bar.live.transient = True
            raise
