"""The report's tables as plain text cells, and sentences that stand in several outputs.

It turns numbers into what a reader sees; it knows nothing of HTML, Markdown, LaTeX, figures or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from semalign.config.study import TableOptions, TableRow
from semalign.judge import ArmSummary, Estimate, Verdict, format_level, format_p, format_points
from semalign.report.numbers import (
    POWER,
    Gain,
    Mean,
    StudyNumbers,
    class_means,
    cost_of,
    findings,
    median_seconds,
    needs_of,
    text_use,
)
from semalign.wording import Catalogue

__all__ = [
    "Cell",
    "Column",
    "Digits",
    "Picture",
    "Row",
    "Table",
    "classes_table",
    "contrast_mark",
    "cost_table",
    "count_text",
    "data_sentence",
    "effect_name",
    "effects_table",
    "failures_table",
    "families",
    "family_name",
    "level_of_means",
    "margin_sentence",
    "md_facts",
    "named",
    "needs_table",
    "state_sentences",
    "study_tables",
    "text_sentences",
    "verdict_text",
    "watch_sentences",
]


# --- plain tables ---------------------------------------------------------------------------------


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
    """What stands in a cell.

    Attributes:
        text: the whole text.
        word: an English verdict, which colors it; "" for none.
        mark: a warning that stands after the text, such as "leaking"; "" for none.
        picture: what stands before the text; None for none, and only a page can show it.
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


def _row(*cells: Cell | str) -> Row:
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells))


# --- figures as text ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Digits:
    """How mIoU points are shown in one report: with one decimal, because the noise of seeds is about a point.

    A figure gets more where it would otherwise show as 0, or an interval's end as the margin, without being it, so that
    what is shown agrees with the verdict.

    Attributes:
        margin: points; all figures get the decimals that it needs itself.
    """

    margin: float

    @property
    def decimals(self) -> int:
        """Fewest decimals, at least one and at most three, that show the margin as it is."""
        return next((decimals for decimals in (1, 2) if round(self.margin, decimals) == self.margin), 3)

    def points(self, value: float, *, signed: bool = True) -> str:
        """Return mIoU points; what is not 0 never shows as 0.

        >>> Digits(1.0).points(-0.31), Digits(1.0).points(0.04), Digits(1.0).points(41.16, signed=False)
        ('-0.3', '+0.04', '41.2')
        """
        return self._shown(value, "+" if signed else "", (0.0,))

    def interval(self, low: float, high: float) -> str:
        """Return ``[low, high]`` of an interval held against the margin; what is not the margin never shows as it.

        >>> Digits(1.0).interval(-1.04, 1.0), Digits(0.25).interval(-0.2, 0.2)
        ('[-1.04, +1.0]', '[-0.20, +0.20]')
        """
        ends = (self._shown(end, "+", (0.0, self.margin, -self.margin)) for end in (low, high))
        return f"[{', '.join(ends)}]"

    def _shown(self, value: float, sign: str, marks: tuple[float, ...]) -> str:
        if value == 0:
            return f"{0:.{self.decimals}f}"
        for decimals in range(self.decimals, 9):
            shown = f"{value:{sign}.{decimals}f}"
            if not any(float(shown) == mark != value for mark in marks):
                return shown
        return f"{value:{sign}.1g}"

    def mean(self, mean: Mean | None, none: str) -> str:
        """Return ``41.2 ± 0.9``, the mean alone where there is no interval, ``none`` where there is no mean."""
        if mean is None:
            return none
        shown = self.points(mean.mean, signed=False)
        return shown if mean.half is None else f"{shown} ± {self.points(mean.half, signed=False)}"

    def effect(self, mean: float | None, low: float | None, high: float | None, none: str) -> str:
        """Return ``-0.3 [-1.9, +1.2]``, an interval that is held against 0; without it where there is none."""
        if mean is None:
            return none
        if low is None or high is None:
            return self.points(mean)
        return f"{self.points(mean)} [{self.points(low)}, {self.points(high)}]"


def named(arm: str, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the arm's name, marked where its texts leak the answer."""
    return words("report.with leaking", arm=arm) if arm in numbers.leaking else arm


def verdict_text(verdict: Verdict, words: Catalogue) -> str:
    """Return the verdict's word with what belongs to it, such as ``inconclusive (new study: 14 blocks)``."""
    word = words(f"verdict.{verdict.word}")
    if verdict.blocks_needed is not None:
        return words("answer.more blocks", word=word, n=verdict.blocks_needed)
    return words("answer.below margin", word=word) if verdict.below_margin else word


def families(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return every family with its number of effects and the level of their intervals."""
    judgement = numbers.judgement
    return words("report.detail separator").join(
        words(
            "method.family level",
            family=family_name(name, words),
            n=m,
            level=format_level(1 - judgement.alpha / m),
        )
        for name, m in judgement.families.items()
    )


def family_name(name: str, words: Catalogue) -> str:
    """Return what a family is called; a user's own families keep their names."""
    return words(f"table.{name}") if name in ("primary", "controls", "interactions") else name


def level_of_means(numbers: StudyNumbers) -> str:
    """Return the coverage of the intervals of means."""
    return format_level(1 - numbers.study.alpha)


def seconds_text(seconds: float | None, words: Catalogue) -> str:
    """Return seconds, with minutes from two on."""
    if seconds is None:
        return words("report.not recorded")
    shown = f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"
    if seconds < 120:
        return words("report.seconds unit", n=shown)
    return words("report.minutes unit", n=shown, minutes=f"{seconds / 60:.1f}")


def hours_text(hours: float) -> str:
    """Return hours with about two digits.

    >>> hours_text(0.0123), hours_text(3.26), hours_text(1234.5)
    ('0.012', '3.3', '1,234')
    """
    return f"{hours:.2g}" if hours < 1 else f"{hours:.1f}" if hours < 10 else f"{hours:,.0f}"


def count_text(value: int) -> str:
    """Return a whole number in groups of three.

    >>> count_text(927531)
    '927,531'
    """
    return f"{value:,}"


# --- sentences that stand in both outputs ---------------------------------------------------------


def text_sentences(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[str, ...]:
    """Return whether the model uses its text, in one sentence, and a second one where all images share one bank.

    Empty for runs of a user's own command, of which nothing is known but the score.
    """
    if numbers.study.command is not None:
        return ()
    use = text_use(numbers)
    main = words(f"report.text {use.answer}", arm=use.arm)
    if use.gains:
        details = words("report.detail separator").join(_gain_text(gain, words, digits) for gain in use.gains)
        first = words("report.detail", main=main, details=details)
    else:
        first = words("report.full stop", main=main)
    if not use.shared:
        return (first,)
    count = numbers.text_of(use.arm).get("sentences", numbers.text_of(use.arm).get("tokens"))
    sentences = words("report.shared sentences", n=count) if isinstance(count, int) else ""
    return (first, words("report.shared", sentences=sentences))


def _gain_text(gain: Gain, words: Catalogue, digits: Digits) -> str:
    word = words(f"verdict.{gain.word}")
    return words(
        "report.gain",
        control=words(f"report.gain {gain.control}"),
        figure=digits.effect(gain.mean, gain.low, gain.high, words("report.not run")),
        word=words("answer.below margin", word=word) if gain.below_margin else word,
    )


def state_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return what is failed or missing; empty when every planned run finished."""
    if not numbers.failed and not numbers.missing:
        return ()
    planned = len(numbers.finished) + len(numbers.failed) + len(numbers.missing)
    said = [
        words(
            "report.state",
            finished=len(numbers.finished),
            planned=planned,
            failed=len(numbers.failed),
            missing=len(numbers.missing),
        )
    ]
    if numbers.failed:
        said.append(words("report.state failed", runs=_runs(numbers.failed, len(numbers.arms), words)))
    if numbers.missing:
        said.append(words("report.state missing", runs=_runs(numbers.missing, len(numbers.arms), words)))
    return (*said, words("report.preliminary"))


def _runs(keys: Iterable[tuple[str, int]], arms: int, words: Catalogue) -> str:
    seeds: dict[str, list[str]] = {}
    for arm, seed in keys:
        seeds.setdefault(arm, []).append(str(seed))
    # Blocks that no arm has are one thing to say, however many arms there are.
    if len(seeds) == arms and len({tuple(of_arm) for of_arm in seeds.values()}) == 1:
        seeds = {words("report.every arm"): next(iter(seeds.values()))}
    return words("report.detail separator").join(
        words("report.seed", arm=arm, seeds=words.join(of_arm)) for arm, of_arm in seeds.items()
    )


def margin_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return which margin was fixed, which one this budget resolves, and which one the pilot promised."""
    resolved = sorted(
        need.resolved for need in needs_of(numbers) if need.family == "primary" and need.resolved is not None
    )
    if not resolved:
        shown = words("report.md margin none")
    else:
        low, high = (format_points(value, signed=False) for value in (resolved[0], resolved[-1]))
        shown = words("report.md margin one" if low == high else "report.md margin range", low=low, high=high)
    study = numbers.study
    sentence = words("report.md margin", margin=f"{study.margin:g}", blocks=study.blocks, resolved=shown)
    if numbers.pilot is not None and study.blocks in numbers.pilot.margins:
        expected = format_points(numbers.pilot.margins[study.blocks], signed=False)
        sentence = words.run_on(sentence, words("report.md margin pilot", margin=expected))
    return sentence


def cost_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return what one run cost, and on what machine."""
    machine = numbers.facts.get("machine")
    parts = [
        words(f"report.{name}", n=machine[name])
        for name in ("cpus", "workers", "threads")
        if isinstance(machine, Mapping) and machine.get(name) is not None
    ]
    return words(
        "report.md cost",
        seconds=seconds_text(median_seconds(numbers.finished.values()), words),
        n=len(numbers.finished),
        machine=words("report.md machine", machine=words.join(parts)) if parts else "",
    )


def data_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return what the data are: kind, folder, images by split, classes."""
    data = numbers.facts.get("data")
    if not isinstance(data, Mapping):
        return words("report.not recorded")
    parts: list[str] = []
    if data.get("root"):
        # The folder's place on this machine says nothing to a reader.
        parts.append(words("report.data root", root=PurePath(str(data["root"])).name))
    elif data.get("kind") is not None:
        parts.append(words("report.data kind", kind=data["kind"]))
    if isinstance(data.get("splits"), Mapping):
        counts = words.join([f"{split} {_count(count)}" for split, count in data["splits"].items()])
        parts.append(words("report.data splits", splits=counts))
    if isinstance(data.get("classes"), Sequence):
        parts.append(words("report.data classes", n=len(data["classes"])))
    return words("report.detail separator").join(parts) or words("report.not recorded")


def _count(value: Any) -> str:
    return count_text(value) if isinstance(value, int) else str(value)


# --- tables ---------------------------------------------------------------------------------------


def study_tables(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[Table, ...]:
    """Return the study's own tables with mIoU, effect and verdict, and one for arms that stand in none of them."""
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
        Column(words("table.miou"), numeric=True),
        Column(words("table.effect"), numeric=True),
        Column(words("table.verdict")),
    )
    rows = []
    for row in table.rows:
        mark = words("report.leaking") if row.arm in numbers.leaking else ""
        cells = [words.text(cell) for cell in row.cells]
        head = Cell(cells[0], mark=mark) if cells else Cell(row.arm, mark=mark)
        rows.append(_row(head, *cells[1:], *_figures(row.arm, numbers, words, digits)))
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
    """Return an arm's mIoU, effect against the baseline, and verdict."""
    summary = next((summary for summary in numbers.judgement.arms if summary.arm == arm), None)
    miou = Cell(_miou(arm, summary, numbers, words, digits))
    if arm == numbers.study.baseline:
        return miou, Cell(words("report.none")), Cell(words("answer.reference"))
    judged = numbers.judgement.of_arm(arm)
    if judged is None:
        return miou, Cell(words("report.none")), Cell(words("answer.not judged"))
    estimate, verdict = judged
    return miou, Cell(_effect(estimate, words, digits)), Cell(verdict_text(verdict, words), word=verdict.word)


def _miou(arm: str, summary: ArmSummary | None, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> str:
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
    heads = ("points interval", "equivalence interval", "p", "p holm", "blocks")
    columns = (
        Column(words("table.effect name")),
        Column(words("table.family")),
        *(Column(words(f"table.{head}"), numeric=True) for head in heads),
        Column(words("table.verdict")),
    )
    none = words("report.none")
    rows = []
    for estimate, verdict in zip(numbers.judgement.estimates, numbers.judgement.verdicts, strict=True):
        low, high = estimate.low_equivalence, estimate.high_equivalence
        rows.append(
            _row(
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


def effect_name(estimate: Estimate, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the effect's name, marked where its texts leak the answer."""
    name = estimate.contrast.name
    return words("report.with leaking", arm=name) if numbers.leaking & set(estimate.contrast.weights) else name


def contrast_mark(estimate: Estimate, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the warning that stands beside an effect whose texts leak; "" for none."""
    return words("report.leaking") if numbers.leaking & set(estimate.contrast.weights) else ""


def _p(p: float | None, none: str) -> str:
    return none if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def classes_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table:
    """Return IoU by class (rows) and arm (columns); absent classes are named under it."""
    arms = [arm for arm in numbers.arms if numbers.runs_of(arm)]
    by_arm = {arm: class_means(numbers, arm) for arm in arms}
    absent = set(numbers.score.absent)
    present = [name for name in numbers.score.class_names if name not in absent]
    none = words("report.none")
    rows = [_row(name, *(digits.mean(by_arm[arm].get(name), none) for arm in arms)) for name in present]
    summaries = {summary.arm: summary for summary in numbers.judgement.arms}
    rows.append(_row(words("table.miou"), *(digits.mean(_mean(summaries[arm]), none) for arm in arms)))
    columns = (Column(words("table.class")), *(Column(named(arm, numbers, words), numeric=True) for arm in arms))
    notes = [words("table.classes note", level=level_of_means(numbers)), absent_sentence(numbers, words)]
    if numbers.leaking & set(arms):
        notes.append(words("table.leaking note"))
    return Table(words("table.classes title"), columns, tuple(rows), tuple(notes))


def absent_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return which classes the scored masks do not hold."""
    absent = list(numbers.score.absent)
    return words("table.absent", classes=words.join(absent)) if absent else words("table.absent none")


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
            _row(
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
        _row(
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
        rows.append(_row(Cell(need.contrast, mark=contrast_mark(estimate, numbers, words)), *cells))
    note = words("table.needs note", power=format_level(POWER))
    return Table(words("table.needs title"), tuple(columns), tuple(rows), (note,))


def watch_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return what a reader must know beside the verdicts: state, notes of judgement, findings of runs."""
    said = [words.text(note) for note in numbers.judgement.notes]
    for sentence, arms in findings(numbers):
        names = words.join([named(arm, numbers, words) for arm in arms])
        said.append(words("report.finding", arms=names, sentence=words.text(sentence)))
    return tuple(said) or (words("report.nothing"),)


def md_facts(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return the sentences above the tables: cost, margin, use of text, what was scored, and what is missing."""
    score = numbers.score
    facts = [cost_sentence(numbers, words), margin_sentence(numbers, words)]
    text = text_sentences(numbers, words, Digits(numbers.study.margin))
    if text:
        facts.append(words("report.md text", sentence=" ".join(text)))
    if numbers.has_images:
        data = data_sentence(numbers, words)
        facts.append(words("report.md scored", split=score.split, images=count_text(len(score.images)), data=data))
    state = state_sentences(numbers, words)
    if state:
        facts.append(words("report.md state", state=" ".join(state)))
    return tuple(facts)
