"""What a page is made of, as plain data."""

from __future__ import annotations

import dataclasses

from semalign.report.cells import Table
from semalign.report.figures.shapes import Drawing, Panel

__all__ = ["Card", "Fact", "Figure", "Group", "Legend", "Section", "Titled", "ends_of", "present"]


@dataclasses.dataclass(frozen=True)
class Card:
    """One effect's answer.

    Attributes:
        name: of the contrast.
        question: that it answers.
        word: the verdict in English, which colors it.
        verdict: the verdict as it is read.
        sentence: the answer in plain words, and at which look of a study with looks.
        reason: the verdict's full sentence with all numbers.
        mark: a warning such as "leaking", or "".
    """

    name: str
    question: str
    word: str
    verdict: str
    sentence: str
    reason: str
    mark: str


@dataclasses.dataclass(frozen=True)
class Figure:
    """A plot with its title."""

    title: str
    plot: Drawing


@dataclasses.dataclass(frozen=True)
class Titled:
    """A panel with its title."""

    title: str
    panel: Panel


@dataclasses.dataclass(frozen=True)
class Legend:
    """One entry of a legend: the arm, its line's index, color (of --c0 to --c7) and dashes."""

    label: str
    style: int
    color: int
    dashes: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows of panels that belong together, under one heading and one legend; without panels the text says why."""

    key: str
    title: str
    text: str
    legend: tuple[Legend, ...]
    rows: tuple[tuple[Titled, ...], ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the evidence: heading, sentences, figures, tables, in this order."""

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fact:
    """A term with what is to be said about it; ``code`` lines are set as they are."""

    term: str
    sentences: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


def present(*tables: Table | None) -> tuple[Table, ...]:
    """Return the tables that exist."""
    return tuple(table for table in tables if table is not None)


def ends_of(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Return an interval; None where there is none."""
    return None if low is None or high is None else (low, high)
