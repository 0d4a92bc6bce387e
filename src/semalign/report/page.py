"""The report as plain data, in the order in which it is read: question, answer, evidence, method, what would change it.

It holds texts, tables and figures to be drawn.  This module does not depend on HTML.
"""

from __future__ import annotations

import dataclasses

from semalign.judge.claims import judge_claims
from semalign.report.cells import Table, notes_once
from semalign.report.differences import NewImagesAnswer, new_images, primary_estimates
from semalign.report.digits import Digits
from semalign.report.evidence import study_evidence
from semalign.report.figures.shapes import Drawing, PanelsPlot
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.cards import card_of, tally_sentence
from semalign.report.sections.claims import advice_table, claims_table
from semalign.report.sections.differences import class_section, image_section
from semalign.report.sections.effects import effects_figures
from semalign.report.sections.factors import factor_sections
from semalign.report.sections.looks import looks_section, looks_sentences
from semalign.report.sections.method import arms_table, method_facts
from semalign.report.sections.new_images import new_images_section
from semalign.report.sections.panels import panel_groups
from semalign.report.sections.parts import Card, Fact, Figure, Group, Section
from semalign.report.sections.pilot import pilot_sentences, pilot_table
from semalign.report.sections.protocol import protocol_card
from semalign.report.sections.turning import change_sentences, changes_table, needs_table
from semalign.report.sentences import (
    data_sentence,
    margin_sentence,
    md_facts,
    state_sentences,
    text_sentences,
    watch_sentences,
)
from semalign.report.tables import classes_table, cost_table, effects_table, failures_table, study_tables
from semalign.wording import Catalogue

__all__ = ["Page", "build_page"]


@dataclasses.dataclass(frozen=True)
class Page:
    """Everything that the report says, in order; `command` and `facts` are for the page of tables alone."""

    lang: str
    name: str
    question: str
    source: str
    command: str
    facts: tuple[str, ...]
    summary: str
    state: tuple[str, ...]
    text_sentences: tuple[str, ...]
    looks: tuple[str, ...]
    tally: str
    cards: tuple[Card, ...]
    claims: Table | None
    advice: Table | None
    tables: tuple[Table, ...]
    effects: tuple[Figure, ...]
    effects_table: Table
    sections: tuple[Section, ...]
    groups: tuple[Group, ...]
    classes: Table | None
    pilot: Table | None
    pilot_sentences: tuple[str, ...]
    cost: Table
    failures: Table | None
    protocol: tuple[Fact, ...]
    method: tuple[Fact, ...]
    arms: Table
    changes: Table
    needs: Table
    change: tuple[str, ...]
    watch: tuple[str, ...]
    new_images: NewImagesAnswer

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """Every table of results, in the page's order."""
        found = [
            *self.tables,
            self.effects_table,
            *(table for section in self.sections for table in section.tables),
            self.classes,
            self.cost,
            self.claims,
            self.advice,
            self.changes,
            self.needs,
            self.failures,
        ]
        return tuple(table for table in found if table is not None)

    @property
    def drawings(self) -> dict[str, Drawing]:
        """The figures as files for a paper, by the file's name without its ending; curves of a group are one figure."""
        found: dict[str, Drawing] = {figure.plot.key: figure.plot for figure in self.effects}
        for section in self.sections:
            found |= {figure.plot.key: figure.plot for figure in section.figures}
        for group in self.groups:
            if group.rows:
                rows = tuple(tuple((one.title, one.panel) for one in row) for row in group.rows)
                legend = tuple((entry.label, entry.style) for entry in group.legend)
                found[group.key] = PanelsPlot(group.key, group.title, rows, legend)
        return found


def build_page(numbers: StudyNumbers, words: Catalogue) -> Page:
    """Return the report of a study in one language."""
    digits = Digits(numbers.study.margin)
    judgement = numbers.judgement
    evidence = study_evidence(numbers)
    answers = bool(judge_claims(evidence))
    answer = new_images(numbers)
    own = numbers.study.command is None
    return Page(
        lang="zh-CN" if words.lang == "zh" else "en",
        name=numbers.study.name,
        question=words.text(numbers.study.question),
        source=words("report.source", source=words.text(numbers.study.source)) if numbers.study.source else "",
        command=str(numbers.facts.get("command") or ""),
        facts=md_facts(numbers, words),
        summary=data_sentence(numbers, words),
        state=state_sentences(numbers, words),
        text_sentences=text_sentences(numbers, words, digits),
        looks=looks_sentences(numbers, words)[1:],  # what was planned stands among the evidence
        tally=tally_sentence(judgement, words),
        cards=tuple(
            card_of(estimate, judgement.of(estimate.contrast.name)[1], numbers, words, digits)
            for estimate in primary_estimates(numbers)
        ),
        claims=claims_table(numbers, evidence, words) if answers else None,
        advice=advice_table(numbers, evidence, words, digits) if answers else None,
        tables=notes_once(study_tables(numbers, words, digits)),
        effects=effects_figures(numbers, words, digits),
        effects_table=effects_table(numbers, words, digits),
        sections=_sections(numbers, answer, words, digits),
        groups=panel_groups(numbers, words) if own or any(run.curves for run in numbers.finished.values()) else (),
        classes=classes_table(numbers, words, digits) if numbers.score.class_names else None,
        pilot=pilot_table(numbers, words, digits),
        pilot_sentences=pilot_sentences(numbers, words),
        cost=cost_table(numbers, words, digits),
        failures=failures_table(numbers, words),
        protocol=protocol_card(numbers, words),
        method=method_facts(numbers, words),
        arms=arms_table(numbers, words),
        changes=changes_table(numbers, words, digits),
        needs=needs_table(numbers, words),
        change=(
            *change_sentences(numbers, words),
            margin_sentence(numbers, words),
            words("report.change margin", margin=f"{numbers.study.margin:g}"),
            words("report.change data"),
        ),
        watch=watch_sentences(numbers, words),
        new_images=answer,
    )


def _sections(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits) -> tuple[Section, ...]:
    found = [
        looks_section(numbers, words, digits),
        *factor_sections(numbers, words, digits),
        class_section(numbers, words, digits),
        image_section(numbers, words, digits),
        new_images_section(numbers, answer, words, digits),
    ]
    return tuple(section for section in found if section is not None)
