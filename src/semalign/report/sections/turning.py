"""What each verdict turns on, and what a decision would take."""

from __future__ import annotations

from semalign.judge import format_level, format_points
from semalign.judge.metric import Metric
from semalign.report.cells import Cell, Column, Row, Table, row_of
from semalign.report.change import LARGEST_SHIFT, Change, changes_of
from semalign.report.digits import Digits, count_text, hours_text
from semalign.report.needs import needs_of
from semalign.report.numbers import POWER, StudyNumbers
from semalign.report.sentences import contrast_mark, verdict_text
from semalign.wording import Catalogue

__all__ = ["change_sentences", "changes_table", "needs_table"]


def needs_table(numbers: StudyNumbers, words: Catalogue) -> Table:
    """Return by effect the spread, the margin that this budget resolves, and what a decision would take."""
    none = words("report.none")
    needs = needs_of(numbers)
    margins = sorted({margin for need in needs for margin in need.margins}, reverse=True)
    columns = [
        Column(words("table.effect name")),
        Column(words("table.sd"), numeric=True),
        Column(words("table.resolved", n=numbers.study.blocks), numeric=True),
    ]
    for margin in margins:
        columns += [
            Column(words("table.blocks at", margin=f"{margin:g}"), numeric=True),
            Column(words("table.hours at", margin=f"{margin:g}"), numeric=True),
        ]
    rows = []
    for need, estimate in zip(needs, numbers.judgement.estimates, strict=True):
        cells = [
            none if need.sd is None else format_points(need.sd, signed=False),
            none if need.resolved is None else f"±{format_points(need.resolved, signed=False)}",
        ]
        for margin in margins:
            blocks, hours = need.margins.get(margin, (None, None))
            cells += [none if blocks is None else count_text(blocks), none if hours is None else hours_text(hours)]
        rows.append(row_of(Cell(need.contrast, mark=contrast_mark(estimate, numbers, words)), *cells))
    note = words("table.needs note", power=format_level(POWER))
    return Table(words("table.needs title"), tuple(columns), tuple(rows), (note,))


def changes_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    """Return for every effect what its verdict turns on."""
    rows = []
    for change, estimate, verdict in zip(
        changes_of(numbers.judgement), numbers.judgement.estimates, numbers.judgement.verdicts, strict=True
    ):
        rows.append(
            Row(
                (
                    Cell(change.contrast, mark=contrast_mark(estimate, numbers, words)),
                    Cell(verdict_text(verdict, words), word=verdict.word),
                    Cell(_thresholds(change, words, digits)),
                    Cell(_one_block(change, numbers.judgement.metric, words)),
                    Cell(_without(change, words)),
                )
            )
        )
    heads = ("table.effect name", "table.verdict", "table.at this spread", "table.one block head", "table.without head")
    columns = tuple(Column(words(head)) for head in heads)
    return Table(words("table.changes title"), columns, tuple(rows), (words("table.changes note"),))


def _thresholds(change: Change, words: Catalogue, digits: Digits) -> str:
    found = change.thresholds
    if found is None:
        return words("report.none")
    direction = digits.points(found.direction, signed=False)
    if found.equivalent is None:
        return words("table.thresholds no", direction=direction)
    return words("table.thresholds", direction=direction, equivalent=digits.points(found.equivalent, signed=False))


def _one_block(change: Change, metric: Metric, words: Catalogue) -> str:
    if change.by_lost:
        return words("table.by lost", n=change.lost)
    if change.thresholds is None or change.lost:
        return words("report.none")
    if change.one_block is None:
        return words("table.one block none", largest=LARGEST_SHIFT)
    one = change.one_block
    return words("table.one block", shift=metric.amount(one.shift), seed=one.seed, word=words(f"verdict.{one.word}"))


def _without(change: Change, words: Catalogue) -> str:
    if change.without is None:
        return words("report.none")
    if not change.without:
        return words("table.without none", word=words(f"verdict.{change.word}"))
    return words("report.detail separator").join(
        words("table.without some", seed=seed, word=words(f"verdict.{word}")) for seed, word in change.without.items()
    )


def change_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return whether any single block decides a verdict; empty where that was not looked for."""
    changes = [change for change in changes_of(numbers.judgement) if change.without is not None]
    if not changes:
        return ()
    lone = [change.contrast for change in changes if change.without and change.word != "inconclusive"]
    if lone:
        return (words("table.changes lone", effects=words("report.detail separator").join(lone)),)
    return () if any(change.without for change in changes) else (words("table.changes stable"),)
