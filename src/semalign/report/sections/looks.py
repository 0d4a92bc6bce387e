"""A study with looks: what each look found, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence

from semalign.judge import Estimate, Judgement, Look
from semalign.judge.looks import FUTILE
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.digits import Digits, chance_text
from semalign.report.figures.shapes import LookMark, LooksPlot
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Figure, Section, ends_of, present
from semalign.report.sentences import contrast_mark, effect_name, verdict_text
from semalign.wording import Catalogue

__all__ = ["look_sentence", "looks_section", "looks_sentences", "looks_table"]


def looks_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return which looks were planned, which is reached, and what comes next; empty for a study judged once."""
    judgement = numbers.judgement
    moments = judgement.moments
    if not moments:
        return ()
    said = [words("method.looks text", looks=words.join([str(n) for n in moments]), n=len(moments))]
    reached = [n for n in moments if n <= len(judgement.seeds)]
    if not reached:
        return (*said, words("answer.looks ahead", n=len(judgement.seeds), first=moments[0]))
    undecided = [
        estimate.contrast.name
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
        if verdict.word == "inconclusive"
    ]
    values = {"index": len(reached), "n": len(moments), "blocks": reached[-1]}
    effects = words("report.detail separator").join(undecided)
    ahead = judgement.next_look(futility=numbers.study.futility)
    if ahead is not None:
        said.append(words("answer.looks next", **values, effects=effects, next=ahead))
    elif not undecided:
        said.append(words("answer.looks decided", **values))
    elif len(reached) == len(moments):
        said.append(words("answer.looks last", blocks=reached[-1], effects=effects))
    else:
        said.append(words("answer.looks futile", **values, effects=effects, chance=f"{100 * FUTILE:g}"))
    return tuple(said)


def look_sentence(judgement: Judgement, estimate: Estimate, words: Catalogue) -> str:
    """Return at which look the effect was decided, or how far it is; "" for a study judged once."""
    if not judgement.moments:
        return ""
    looks = judgement.looks_of(estimate.contrast.name)
    if not looks:
        return words("answer.look none")
    index, look = _standing(looks)
    n = len(judgement.moments)
    if look.verdict.word != "inconclusive":
        return words("answer.look decided", index=index, n=n, blocks=look.blocks)
    if index == n:
        return words("answer.look last open", blocks=look.blocks)
    if look.chance is None:
        return words("answer.look open short", index=index, n=n)
    return words("answer.look open", index=index, n=n, chance=chance_text(look.chance))


def _standing(looks: Sequence[Look]) -> tuple[int, Look]:
    """Return the last judged look with its index from 1."""
    return [(index, look) for index, look in enumerate(looks, start=1) if look.judged][-1]


def looks_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    """Return every effect at every look reached; None where there is none."""
    judgement = numbers.judgement
    if not judgement.looks:
        return None
    none = words("report.none")
    rows = []
    for estimate in judgement.estimates:
        looks = judgement.looks_of(estimate.contrast.name)
        for index, look in enumerate(looks, start=1):
            here = look.estimate
            low, high = here.low_equivalence, here.high_equivalence
            verdict = Cell(verdict_text(look.verdict, words), word=look.verdict.word)
            if not look.judged:
                verdict = Cell(words("table.shown only", word=words(f"verdict.{look.verdict.word}")))
            chance = none if look.chance is None else chance_text(look.chance)
            rows.append(
                Row(
                    (
                        Cell(estimate.contrast.name, mark=contrast_mark(estimate, numbers, words)),
                        Cell(words("answer.look", index=index, blocks=look.blocks)),
                        Cell(digits.effect(here.mean, here.low, here.high, none)),
                        Cell(none if low is None or high is None else digits.interval(low, high)),
                        verdict,
                        Cell(words("table.futile", chance=chance) if look.futile else chance),
                    )
                )
            )
    columns = (
        Column(words("table.effect name")),
        Column(words("table.look head")),
        Column(words("table.points interval"), numeric=True),
        Column(words("table.equivalence interval"), numeric=True),
        Column(words("table.verdict")),
        Column(words("table.chance head"), numeric=True),
    )
    note = words("table.looks table note", chance=f"{100 * FUTILE:g}")
    return Table(words("table.looks title"), columns, tuple(rows), (note,))


def looks_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section | None:
    """Return every effect at every look; None for a study judged once."""
    judgement = numbers.judgement
    if not judgement.moments:
        return None
    figures = []
    for index, estimate in enumerate(judgement.estimates):
        looks = judgement.looks_of(estimate.contrast.name)
        if not any(look.estimate.low is not None for look in looks):
            continue
        marks, values = [], []
        for place, look in enumerate(looks, start=1):
            here = look.estimate
            if here.mean is None:
                continue
            label = words("answer.look", index=place, blocks=look.blocks)
            figure = digits.effect(here.mean, here.low, here.high, words("report.none"))
            values.append(
                words("figure.looks value", look=label, figure=figure, word=words(f"verdict.{look.verdict.word}"))
            )
            marks.append(
                LookMark(
                    label,
                    look.verdict.word,
                    here.mean,
                    ends_of(here.low, here.high),
                    ends_of(here.low_equivalence, here.high_equivalence),
                    not look.judged,
                )
            )
        # The first look's interval is several times the last one's, which is the one to be seen.
        last = looks[-1].estimate
        ends = [abs(end) for end in (last.low, last.high, last.mean) if end is not None]
        description = words(
            "figure.looks description",
            effect=estimate.contrast.name,
            margin=f"{judgement.margin:g}",
            values=words("report.detail separator").join(values),
            state=look_sentence(judgement, estimate, words),
        )
        ahead = tuple(
            words("answer.look not reached", index=place) for place in range(len(looks) + 1, len(judgement.moments) + 1)
        )
        plot = LooksPlot(
            f"looks-{index}",
            description,
            tuple(marks),
            ahead,
            judgement.margin,
            max(1.6 * judgement.margin, 1.25 * max(ends)),
            words("figure.effects axis"),
        )
        figures.append(Figure(effect_name(estimate, numbers, words), plot))
    text = (words("figure.looks figure text"),) if figures else ()
    table = looks_table(numbers, words, digits)
    return Section(
        "looks", words("method.looks"), (*looks_sentences(numbers, words), *text), tuple(figures), present(table)
    )
