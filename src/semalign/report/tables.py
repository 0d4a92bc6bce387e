"""The main tables: arms with their effects, all effects, classes, cost, failed runs."""

from __future__ import annotations

from semalign.config.study import TableOptions, TableRow
from semalign.judge import ArmSummary, Estimate, format_p
from semalign.report.arms import Mean, class_means, cost_of
from semalign.report.cells import Cell, Column, Table, row_of
from semalign.report.digits import Digits, count_text, seconds_text
from semalign.report.numbers import StudyNumbers
from semalign.report.sentences import (
    absent_sentence,
    contrast_mark,
    families,
    family_name,
    level_of_means,
    named,
    verdict_text,
)
from semalign.wording import Catalogue

__all__ = ["classes_table", "cost_table", "effects_table", "failures_table", "study_tables"]


def study_tables(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[Table, ...]:
    """Return the study's own tables with score, effect and verdict, and one for the arms that none of them shows."""
    options = list(numbers.study.tables)
    shown = {row.arm for table in options for row in table.rows}
    left = [arm for arm in numbers.arms if arm not in shown]
    if left:
        title = words("table.other arms") if shown else words("table.all arms")
        rows = tuple(TableRow(arm=arm, cells=(arm,)) for arm in left)
        options.append(TableOptions(title=title, columns=(words("table.arm"),), rows=rows))
    return tuple(_study_table(table, numbers, words, digits) for table in options)


def _study_table(table: TableOptions, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    columns = (
        *(Column(words.text(head)) for head in table.columns),
        Column(words("table.score"), numeric=True),
        Column(words("table.effect"), numeric=True),
        Column(words("table.verdict")),
    )
    rows = []
    for row in table.rows:
        mark = words("report.leaking") if row.arm in numbers.leaking else ""
        cells = [words.text(cell) for cell in row.cells]
        head = Cell(cells[0], mark=mark) if cells else Cell(row.arm, mark=mark)
        rows.append(row_of(head, *cells[1:], *_figures(row.arm, numbers, words, digits)))
    notes = [
        words(
            "table.table note",
            level=level_of_means(numbers),
            baseline=numbers.study.baseline,
            families=families(numbers, words),
        )
    ]
    if any(row.arm in numbers.leaking for row in table.rows):
        notes.append(words("table.leaking note"))
    return Table(words.text(table.title), columns, tuple(rows), tuple(notes))


def _figures(arm: str, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[Cell, Cell, Cell]:
    """Return an arm's score, effect against the baseline, and verdict."""
    summary = next((summary for summary in numbers.judgement.arms if summary.arm == arm), None)
    score = Cell(_score(arm, summary, numbers, words, digits))
    if arm == numbers.study.baseline:
        return score, Cell(words("report.none")), Cell(words("answer.reference"))
    judged = numbers.judgement.of_arm(arm)
    if judged is None:
        return score, Cell(words("report.none")), Cell(words("answer.not judged"))
    estimate, verdict = judged
    return score, Cell(_effect(estimate, words, digits)), Cell(verdict_text(verdict, words), word=verdict.word)


def _score(arm: str, summary: ArmSummary | None, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> str:
    if summary is None:
        return words("report.not run")
    if summary.mean is None:
        return words("report.all failed", n=summary.failed)
    n = summary.runs - summary.failed
    shown = digits.mean(_mean(summary), "")
    if n == numbers.wanted:
        return shown
    state = [words("table.runs", n=n, planned=numbers.wanted)]
    if summary.failed:
        state.append(words("table.runs failed", failed=summary.failed))
    return f"{shown} ({words.join(state)})"


def _mean(summary: ArmSummary) -> Mean | None:
    if summary.mean is None:
        return None
    half = None if summary.low is None or summary.high is None else (summary.high - summary.low) / 2
    return Mean(summary.mean, half, summary.runs - summary.failed)


def _effect(estimate: Estimate, words: Catalogue, digits: Digits) -> str:
    return digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none"))


def effects_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    """Return every judged effect with both intervals, p and verdict."""
    heads = ("table.points interval", "table.equivalence interval", "table.p", "table.p holm", "table.blocks")
    columns = (
        Column(words("table.effect name")),
        Column(words("table.family")),
        *(Column(words(head), numeric=True) for head in heads),
        Column(words("table.verdict")),
    )
    none = words("report.none")
    rows = []
    for estimate, verdict in zip(numbers.judgement.estimates, numbers.judgement.verdicts, strict=True):
        low, high = estimate.low_equivalence, estimate.high_equivalence
        rows.append(
            row_of(
                Cell(estimate.contrast.name, mark=contrast_mark(estimate, numbers, words)),
                family_name(estimate.contrast.family, words),
                _effect(estimate, words, digits),
                none if low is None or high is None else digits.interval(low, high),
                _p(estimate.p, none),
                _p(estimate.p_holm, none),
                str(estimate.n),
                Cell(verdict_text(verdict, words), word=verdict.word),
            )
        )
    notes = [words("table.effects note")]
    if any(row.cells[0].mark for row in rows):
        notes.append(words("table.leaking note"))
    return Table(words("table.effects title"), columns, tuple(rows), tuple(notes))


def _p(p: float | None, none: str) -> str:
    return none if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def classes_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    """Return IoU by class (rows) and arm (columns); absent classes are named under it."""
    arms = [arm for arm in numbers.arms if numbers.runs_of(arm)]
    by_arm = {arm: class_means(numbers, arm) for arm in arms}
    absent = set(numbers.score.absent)
    present = [name for name in numbers.score.class_names if name not in absent]
    none = words("report.none")
    rows = [row_of(name, *(digits.mean(by_arm[arm].get(name), none) for arm in arms)) for name in present]
    summaries = {summary.arm: summary for summary in numbers.judgement.arms}
    rows.append(row_of(words("table.miou"), *(digits.mean(_mean(summaries[arm]), none) for arm in arms)))
    columns = (Column(words("table.class")), *(Column(named(arm, numbers, words), numeric=True) for arm in arms))
    notes = [words("table.classes note", level=level_of_means(numbers)), absent_sentence(numbers, words)]
    if numbers.leaking & set(arms):
        notes.append(words("table.leaking note"))
    return Table(words("table.classes title"), columns, tuple(rows), tuple(notes))


def cost_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    """Return parameters, steps, time and the gap between training and scored images by arm."""
    baseline = cost_of(numbers, numbers.study.baseline).parameters
    none = words("report.none")
    rows = []
    for arm in numbers.arms:
        cost = cost_of(numbers, arm)
        difference = none
        if arm != numbers.study.baseline and len(baseline) == 1 and len(cost.parameters) == 1:
            difference = f"{cost.parameters[0] - baseline[0]:+,}" if cost.parameters != baseline else "0"
        rows.append(
            row_of(
                Cell(arm, mark=words("report.leaking") if arm in numbers.leaking else ""),
                words.join([count_text(value) for value in cost.parameters]) or none,
                difference,
                words.join([count_text(value) for value in cost.steps]) or none,
                none if cost.seconds is None else seconds_text(cost.seconds, words),
                digits.mean(cost.train, none),
                digits.mean(cost.gap, none),
            )
        )
    heads = (
        words("table.parameters"),
        words("table.against", baseline=numbers.study.baseline),
        words("table.steps"),
        words("table.seconds"),
    )
    columns = (
        Column(words("table.arm")),
        *(Column(head, numeric=True) for head in (*heads, words("table.train"), words("table.gap"))),
    )
    notes = [words("table.cost note")]
    if numbers.leaking:
        notes.append(words("table.leaking note"))
    return Table(words("table.cost title"), columns, tuple(rows), tuple(notes))


def failures_table(numbers: StudyNumbers, words: Catalogue) -> Table | None:
    """Return the failed runs with what happened; None where none failed."""
    if not numbers.failed:
        return None
    rows = tuple(
        row_of(
            Cell(arm, mark=words("report.leaking") if arm in numbers.leaking else ""),
            str(seed),
            str(result.facts.get("failure", words("report.not recorded"))),
        )
        for (arm, seed), result in numbers.failed.items()
    )
    notes = tuple(
        words(
            "table.failure test",
            arm=test.arm,
            baseline=numbers.study.baseline,
            blocks=test.blocks,
            only_arm=test.only_arm,
            only_baseline=test.only_baseline,
            p=format_p(test.p),
        )
        for test in numbers.judgement.failures
        if test.only_arm or test.only_baseline
    )
    columns = (
        Column(words("table.arm")),
        Column(words("table.seed head"), numeric=True),
        Column(words("table.what happened")),
    )
    return Table(words("table.failures title"), columns, rows, notes)
