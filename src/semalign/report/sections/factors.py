"""A study of factors: means by level, how two factors act together, and what a fraction cannot distinguish."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from semalign.judge.contrasts import aliases
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.digits import Digits
from semalign.report.figures.shapes import FactorPanel, FactorsPlot
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Figure, Section, present
from semalign.wording import Catalogue

__all__ = [
    "Interaction",
    "MainEffect",
    "aliases_table",
    "factor_sections",
    "interactions_of",
    "levels_table",
    "main_effects_of",
]


@dataclasses.dataclass(frozen=True)
class MainEffect:
    """Mean score by level of one factor, in the unit of the metric: over all complete blocks, and blocks x levels."""

    factor: str
    levels: tuple[str, ...]
    mean: tuple[float, ...]
    blocks: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Interaction:
    """Mean score by level of ``one`` (columns) for each level of ``other`` (rows)."""

    one: str
    other: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


def _factor_scores(numbers: StudyNumbers) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
    """Return the complete blocks that are judged, and by arm its scores in them, points."""
    arms = list(numbers.study.levels)
    seeds = [seed for seed in numbers.judged_seeds if all((arm, seed) in numbers.finished for arm in arms)]
    scores = {}
    for arm in arms:
        found = [numbers.finished[arm, seed].score for seed in seeds]
        scores[arm] = np.array([numbers.judgement.metric.scale * score.miou for score in found if score is not None])
    return seeds, scores


def main_effects_of(numbers: StudyNumbers) -> tuple[MainEffect, ...]:
    """Return the means by level of every factor; empty without factors or complete blocks."""
    seeds, scores = _factor_scores(numbers)
    if not seeds:
        return ()
    found = []
    for factor, options in numbers.study.factors.items():
        names = tuple(options)
        columns = [
            np.mean([scores[arm] for arm, chosen in numbers.study.levels.items() if chosen[factor] == name], axis=0)
            for name in names
        ]
        table = np.stack(columns, axis=1)
        found.append(MainEffect(factor, names, tuple(table.mean(axis=0).tolist()), table))
    return tuple(found)


def interactions_of(numbers: StudyNumbers) -> tuple[Interaction, ...]:
    """Return the means by two factors' levels; empty without complete blocks, and for a fraction of a design."""
    seeds, scores = _factor_scores(numbers)
    if not seeds or numbers.study.fraction is not None:
        return ()
    levels = numbers.study.levels
    found = []
    for one, other in itertools.combinations(numbers.study.factors, 2):
        columns = tuple(numbers.study.factors[one])
        rows = []
        for row in numbers.study.factors[other]:
            means = [
                float(
                    np.mean(
                        [scores[arm] for arm, chosen in levels.items() if chosen[one] == name and chosen[other] == row]
                    )
                )
                for name in columns
            ]
            rows.append((row, tuple(means)))
        found.append(Interaction(one, other, columns, tuple(rows)))
    return tuple(found)


def levels_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    """Return the mean score by factor and level; None where there is none."""
    effects = main_effects_of(numbers)
    if not effects:
        return None
    rows = []
    for effect in effects:
        for level, mean in zip(effect.levels, effect.mean, strict=True):
            arms = sum(chosen[effect.factor] == level for chosen in numbers.study.levels.values())
            rows.append(
                Row((Cell(effect.factor), Cell(level), Cell(digits.points(mean, signed=False)), Cell(str(arms))))
            )
    columns = (
        Column(words("table.factor")),
        Column(words("table.level")),
        Column(words("table.score"), numeric=True),
        Column(words("table.arms head"), numeric=True),
    )
    return Table(words("table.levels title"), columns, tuple(rows), (words("table.levels note"),))


def aliases_table(numbers: StudyNumbers, words: Catalogue) -> Table | None:
    """Return which effects share an estimate in a fraction of a design; None for any other design."""
    shared = aliases(numbers.study.levels, numbers.study.baseline) if numbers.study.levels else {}
    if not shared:
        return None
    mains = set(numbers.study.factors)
    rows = tuple(
        Row(
            (
                Cell(effect),
                Cell(others),
                Cell(words("table.aliases main"))
                if effect in mains
                else Cell(words("verdict.aliased"), word="inconclusive"),
            )
        )
        for effect, others in shared.items()
    )
    columns = (Column(words("table.effect name")), Column(words("table.aliases head")), Column(words("table.verdict")))
    return Table(words("table.aliases title"), columns, rows, (words("table.aliases note"),))


def factor_sections(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> list[Section]:
    """Return the main effects and the two-factor effects; empty for a study without factors."""
    if not numbers.study.factors:
        return []
    effects = main_effects_of(numbers)
    shared = aliases_table(numbers, words)
    if not effects:
        return [Section("factors", words("report.factors"), (words("report.factors none"),), (), present(shared))]

    def said(factor: str, levels: tuple[str, ...], means: tuple[float, ...]) -> str:
        values = [
            words("figure.factor value", level=level, value=digits.points(mean, signed=False))
            for level, mean in zip(levels, means, strict=True)
        ]
        return words("figure.factor values", factor=factor, values=words.join(values))

    panels = tuple(FactorPanel(effect.factor, effect.levels, (("", effect.mean),), effect.blocks) for effect in effects)
    values = words("report.detail separator").join(said(one.factor, one.levels, one.mean) for one in effects)
    figure = Figure(
        words("report.main effects"),
        FactorsPlot(
            "main-effects", words("figure.factors description", values=values), panels, words("figure.mean score")
        ),
    )
    sections = [
        Section(
            "factors",
            words("report.factors"),
            (words("report.factors text", n=len(effects[0].blocks)),),
            (figure,),
            present(levels_table(numbers, words, digits), shared),
        )
    ]
    pairs = interactions_of(numbers)
    if pairs:
        panels = tuple(
            # Two names side by side would run into the next panel's.
            FactorPanel(f"{pair.one}\n× {pair.other}", pair.columns, pair.rows)
            for pair in pairs
        )
        values = words("report.detail separator").join(
            said(f"{words('figure.factor title', one=pair.one, other=pair.other)}, {label}", pair.columns, means)
            for pair in pairs
            for label, means in pair.rows
        )
        judged = "interactions" in numbers.judgement.families
        plot = FactorsPlot(
            "interactions", words("figure.factors description", values=values), panels, words("figure.mean score")
        )
        text = words("report.interactions text" if judged else "report.interactions shown")
        sections.append(
            Section(
                "interactions",
                words("report.interaction plot"),
                (text,),
                (Figure(words("report.interaction plot"), plot),),
            )
        )
    return sections
