"""The report as plain data, in the order in which it is read: question, answer, evidence, method, what would change it.

It holds texts, tables and figures to be drawn; it knows nothing of HTML.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from semalign.config.options import TextKind
from semalign.config.reader import flatten
from semalign.judge import Contrast, Estimate, Judgement, Pilot, Verdict, format_level, format_p, format_points
from semalign.judge.claims import judge_claims
from semalign.palette import line_style
from semalign.report.differences import (
    ImageChanges,
    NewImagesAnswer,
    class_changes,
    image_changes,
    new_images,
    primary_estimates,
)
from semalign.report.evidence import study_evidence
from semalign.report.figures.shapes import (
    Drawing,
    EffectMark,
    EffectsPlot,
    FactorPanel,
    FactorsPlot,
    ForestMark,
    ForestPlot,
    Line,
    LookMark,
    LooksPlot,
    Panel,
    PanelsPlot,
)
from semalign.report.numbers import (
    Band,
    SiteGroup,
    StudyNumbers,
    curve_band,
    site_band,
    site_groups,
)
from semalign.report.protocol import Fact, protocol_card
from semalign.report.sections import (
    advice_table,
    aliases_table,
    change_sentences,
    changes_table,
    claims_table,
    class_changes_table,
    data_pictures,
    image_changes_table,
    interactions_of,
    levels_table,
    look_sentence,
    looks_sentences,
    looks_table,
    main_effects_of,
    new_images_sentences,
    new_images_table,
)
from semalign.report.tables import (
    Cell,
    Column,
    Digits,
    Row,
    Table,
    absent_sentence,
    classes_table,
    cost_sentence,
    cost_table,
    data_sentence,
    effect_name,
    effects_table,
    failures_table,
    families,
    family_name,
    margin_sentence,
    md_facts,
    named,
    needs_table,
    state_sentences,
    study_tables,
    text_sentences,
    verdict_text,
    watch_sentences,
)
from semalign.wording import Catalogue

__all__ = ["Card", "Figure", "Group", "Legend", "Page", "Section", "Titled", "build_page"]


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
    speaks = bool(judge_claims(evidence))
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
        tally=_tally(judgement, words),
        cards=tuple(
            _card(estimate, judgement.of(estimate.contrast.name)[1], numbers, words, digits)
            for estimate in primary_estimates(numbers)
        ),
        claims=claims_table(numbers, evidence, words) if speaks else None,
        advice=advice_table(numbers, evidence, words, digits) if speaks else None,
        tables=_notes_once(study_tables(numbers, words, digits)),
        effects=_effects_figures(numbers, words, digits),
        effects_table=effects_table(numbers, words, digits),
        sections=_sections(numbers, answer, words, digits),
        groups=_groups(numbers, words) if own or any(run.curves for run in numbers.finished.values()) else (),
        classes=classes_table(numbers, words, digits) if numbers.score.class_names else None,
        pilot=_pilot_table(numbers, words, digits),
        pilot_sentences=_pilot_sentences(numbers, words),
        cost=cost_table(numbers, words, digits),
        failures=failures_table(numbers, words),
        protocol=protocol_card(numbers, words),
        method=_method(numbers, words),
        arms=_arms_table(numbers, words),
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


def _notes_once(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """Return the tables with every note under the first of them that has it."""
    said: set[str] = set()
    result = []
    for table in tables:
        result.append(dataclasses.replace(table, notes=tuple(note for note in table.notes if note not in said)))
        said.update(table.notes)
    return tuple(result)


# --- answer ---------------------------------------------------------------------------------------


def _tally(judgement: Judgement, words: Catalogue) -> str:
    found = [
        verdict.word
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
        if estimate.contrast.family == "primary"
    ]
    kinds = ("better", "worse", "equivalent", "inconclusive")
    counted = [
        words("report.tally word", n=found.count(kind), word=words(f"verdict.{kind}"))
        for kind in kinds
        if kind in found
    ]
    decided = sum(word != "inconclusive" for word in found)
    return words("report.tally", total=len(found), decided=decided, words=words.join(counted)) if found else ""


def _card(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Card:
    contrast = estimate.contrast
    return Card(
        name=contrast.name,
        question=_question(contrast, words),
        word=verdict.word,
        verdict=verdict_text(verdict, words),
        sentence=words.run_on(
            plain_sentence(estimate, verdict, numbers.judgement, words, digits),
            look_sentence(numbers.judgement, estimate, words),
        ),
        reason=words.text(verdict.reason),
        mark=words("report.leaking") if numbers.leaking & set(contrast.weights) else "",
    )


def _question(contrast: Contrast, words: Catalogue) -> str:
    if not contrast.question and sorted(contrast.weights.values()) == [-1.0, 1.0]:
        second, first = sorted(contrast.weights, key=contrast.weights.__getitem__)
        return words("judge.question arm", arm=first, baseline=second)
    return words.text(contrast.question)


def plain_sentence(estimate: Estimate, verdict: Verdict, judgement: Judgement, words: Catalogue, digits: Digits) -> str:
    """Return the answer in plain words, from the same numbers as the verdict's reason."""
    moment, margin = judgement.moment_of(estimate), judgement.margin
    if judgement.moments and moment is None:
        return words("answer.plain before look", n=estimate.n, first=judgement.moments[0])
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return words("answer.plain no interval", n=estimate.n)
    values = {
        "mean": digits.points(estimate.mean),
        "interval": digits.interval(estimate.low, estimate.high),
        "margin": f"{margin:g}",
    }
    if verdict.word in ("better", "worse"):
        called = words.text(estimate.called or verdict.word)
        called = called[:1].upper() + called[1:]
        beyond = max(estimate.low, -estimate.high) > margin
        key = "below" if verdict.below_margin else "beyond" if beyond else "direction"
        return words(f"answer.plain {key}", called=called, **values)
    if verdict.word == "equivalent":
        assert estimate.low_equivalence is not None
        assert estimate.high_equivalence is not None
        inner = digits.interval(estimate.low_equivalence, estimate.high_equivalence)
        return words("answer.plain equivalent", inner=inner, **values)
    low, high = digits.points(estimate.low), digits.points(estimate.high)
    if verdict.blocks_needed is not None:
        return words("answer.plain inconclusive", n=estimate.n, low=low, high=high, needed=verdict.blocks_needed)
    lost = sum(item.contrast == estimate.contrast.name for item in judgement.left_out)
    if estimate.low <= 0 <= estimate.high and moment is not None and moment[0] < len(judgement.moments):
        return words("answer.plain open look", n=estimate.n, low=low, high=high, next=judgement.moments[moment[0]])
    if lost:
        return words("answer.plain lost", lost=lost, all=lost + estimate.n)
    return words("answer.plain other")


# --- figures --------------------------------------------------------------------------------------


def _effects_figures(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[Figure, ...]:
    """Return one figure per family, so that a large effect of a control does not hide the small ones."""
    figures = []
    margin = f"{numbers.study.margin:g}"
    for index, family in enumerate(numbers.judgement.families):
        marks = tuple(
            _mark(estimate, verdict, numbers, words, digits)
            for estimate, verdict in zip(numbers.judgement.estimates, numbers.judgement.verdicts, strict=True)
            if estimate.contrast.family == family and estimate.mean is not None
        )
        if marks:
            values = words("report.detail separator").join(f"{mark.label} {mark.figure}" for mark in marks)
            figures.append(
                Figure(
                    family_name(family, words),
                    EffectsPlot(
                        key=f"effects-{index}",
                        description=words("figure.effects description", margin=margin, values=values),
                        marks=marks,
                        margin=numbers.study.margin,
                        x_label=words("figure.effects axis"),
                        margin_label=words("figure.margin band", margin=margin),
                    ),
                )
            )
    return tuple(figures)


def _mark(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> EffectMark:
    assert estimate.mean is not None
    return EffectMark(
        label=effect_name(estimate, numbers, words),
        figure=f"{digits.effect(estimate.mean, estimate.low, estimate.high, '')} {words(f'verdict.{verdict.word}')}",
        word=verdict.word,
        mean=estimate.mean,
        interval=None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high),
        inner=(
            None
            if estimate.low_equivalence is None or estimate.high_equivalence is None
            else (estimate.low_equivalence, estimate.high_equivalence)
        ),
        values=estimate.values,
    )


def _sections(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits) -> tuple[Section, ...]:
    found = [
        _looks_section(numbers, words, digits),
        *_factor_sections(numbers, words, digits),
        _class_section(numbers, words, digits),
        _image_section(numbers, words, digits),
        _new_images_section(numbers, answer, words, digits),
    ]
    return tuple(section for section in found if section is not None)


def _tables(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _looks_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section | None:
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
                    _ends(here.low, here.high),
                    _ends(here.low_equivalence, here.high_equivalence),
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
        "looks", words("method.looks"), (*looks_sentences(numbers, words), *text), tuple(figures), _tables(table)
    )


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _factor_sections(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> list[Section]:
    if not numbers.study.factors:
        return []
    effects = main_effects_of(numbers)
    shared = aliases_table(numbers, words)
    if not effects:
        return [Section("factors", words("report.factors"), (words("report.factors none"),), (), _tables(shared))]

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
            "main-effects", words("figure.factors description", values=values), panels, words("figure.mean miou")
        ),
    )
    sections = [
        Section(
            "factors",
            words("report.factors"),
            (words("report.factors text", n=len(effects[0].blocks)),),
            (figure,),
            _tables(levels_table(numbers, words, digits), shared),
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
            "interactions", words("figure.factors description", values=values), panels, words("figure.mean miou")
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


_MOST_CLASSES = 24
_MOST_EFFECTS = 6


def _class_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section:
    table = class_changes_table(numbers, words, digits)
    title = words("report.class changes")
    if table is None:
        return Section("classes", title, (words("report.class changes none"),))
    figures = []
    for index, estimate in enumerate(primary_estimates(numbers)[:_MOST_EFFECTS]):
        changes = class_changes(numbers, estimate)
        if not changes:
            continue
        # Of many classes those that change most, in the order of the change.
        most = sorted(changes, key=lambda change: -abs(change.mean))[:_MOST_CLASSES]
        most.sort(key=lambda change: -change.mean)
        marks = tuple(ForestMark(change.name, change.mean, _ends(change.low, change.high)) for change in most)
        values = words("report.detail separator").join(
            f"{change.name} {digits.effect(change.mean, change.low, change.high, words('report.none'))}"
            for change in most
        )
        description = words("figure.class description", effect=estimate.contrast.name, values=values)
        plot = ForestPlot(f"classes-{index}", description, marks, words("figure.effects axis"))
        figures.append(Figure(effect_name(estimate, numbers, words), plot))
    return Section("class-changes", title, table.notes, tuple(figures), (dataclasses.replace(table, notes=()),))


def _image_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section:
    title = words("report.image changes")
    found = [
        changes
        for estimate in primary_estimates(numbers)[:_MOST_EFFECTS]
        if (changes := image_changes(numbers, estimate)) is not None
    ]
    if not found:
        return Section("image-changes", title, (words("report.image changes none"),))
    show = data_pictures(numbers)
    said = [words("report.image changes text", n=_blocks_text(found, numbers), images=len(found[0].mean))]
    if show is None:
        said.append(words("report.pictures missing"))
    said.append(words("figure.images panel text"))
    figures = tuple(_images_figure(index, changes, numbers, words, digits) for index, changes in enumerate(found))
    tables = tuple(image_changes_table(numbers, changes, show, words, digits) for changes in found)
    return Section("image-changes", title, tuple(said), figures, _notes_once(tables))


def _blocks_text(found: list[ImageChanges], numbers: StudyNumbers) -> str:
    blocks = sorted({numbers.judgement.of(changes.contrast.name)[0].n for changes in found})
    return str(blocks[0]) if len(blocks) == 1 else f"{blocks[0]}–{blocks[-1]}"


def _images_figure(
    index: int, changes: ImageChanges, numbers: StudyNumbers, words: Catalogue, digits: Digits
) -> Figure:
    name = effect_name(numbers.judgement.of(changes.contrast.name)[0], numbers, words)
    ranks = np.arange(1, len(changes.mean) + 1, dtype=np.float64)
    line = Line(0, ranks, changes.mean, changes.mean - changes.sd, changes.mean + changes.sd)
    description = words(
        "figure.images description",
        effect=name,
        n=len(ranks),
        up=int((changes.mean > 0).sum()),
        down=int((changes.mean < 0).sum()),
        median=digits.points(float(np.median(changes.mean))),
    )
    panel = Panel(f"images-{index}", description, words("figure.images axis"), (line,), zero=True)
    return Figure(words("figure.images panel", effect=name), panel)


def _new_images_section(
    numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits
) -> Section | None:
    if not numbers.has_images and answer.refused == "scores only":
        return None
    said = new_images_sentences(numbers, answer, words)
    table = new_images_table(numbers, answer, words, digits)
    return Section("new-images", words("report.new images"), said, (), _tables(table))


def _groups(numbers: StudyNumbers, words: Catalogue) -> tuple[Group, ...]:
    training = [
        _panel(
            f"training-{index}",
            words(f"figure.{name}"),
            {arm: _scaled(curve_band(numbers, arm, name), factor) for arm in numbers.arms},
            numbers,
            words,
        )
        for index, (name, factor) in enumerate((("train/loss", 1.0), ("val/miou", 100.0), ("train/miou", 100.0)))
    ]
    groups = [_group("training", words("figure.training text"), [training], numbers, words)]
    for key, quantities in (
        ("knobs", ("scale", "logit_size", "gate")),
        ("fusion", ("strength", "entropy")),
        ("stability", ("grad_norm",)),
    ):
        rows = [row for quantity in quantities for row in _site_panels(key, quantity, numbers, words)]
        if rows or key != "stability":
            groups.append(_group(key, words(f"figure.{key} text"), rows, numbers, words))
    return tuple(groups)


def _site_panels(key: str, quantity: str, numbers: StudyNumbers, words: Catalogue) -> list[list[Titled | None]]:
    """Return one row of panels for the encoder's stages, one for the decoder's levels, one for other sites."""
    places = site_groups(numbers, quantity)
    bands = {place: {arm: site_band(numbers, arm, place, quantity) for arm in numbers.arms} for place in places}
    panels = [
        _panel(
            f"{key}-{quantity.replace('_', '-')}-{index}",
            words("figure.panel title", quantity=words(f"figure.{quantity}"), place=_place(place, words)),
            bands[place],
            numbers,
            words,
            # One vertical axis for all stages of the encoder, and one for all levels of the decoder.
            limits=_limits([band for other in places if other.side == place.side for band in bands[other].values()]),
        )
        for index, place in enumerate(places)
    ]
    sides = dict.fromkeys(place.side for place in places)
    return [[panel for panel, place in zip(panels, places, strict=True) if place.side == side] for side in sides]


def _place(group: SiteGroup, words: Catalogue) -> str:
    return words(f"figure.{group.side}", index=group.index, site=group.site)


def _group(key: str, text: str, rows: list[list[Titled | None]], numbers: StudyNumbers, words: Catalogue) -> Group:
    drawn = tuple(tuple(panel for panel in row if panel is not None) for row in rows)
    drawn = tuple(row for row in drawn if row)
    styles = {line.style for row in drawn for panel in row for line in panel.panel.lines}
    legend = []
    for index, arm in enumerate(numbers.arms):
        if index in styles:
            color, dashes = line_style(index)
            # Dashes are in widths of the line, which is 2 pixels in the legend.
            pattern = " ".join(f"{2 * length:g}" for length in dashes)
            legend.append(Legend(named(arm, numbers, words), index, color, pattern))
    return Group(key, words(f"figure.{key}"), text if drawn else words("figure.no curves"), tuple(legend), drawn)


def _panel(
    key: str,
    title: str,
    bands: Mapping[str, Band | None],
    numbers: StudyNumbers,
    words: Catalogue,
    limits: tuple[float, float] | None = None,
) -> Titled | None:
    lines, values = [], []
    for index, arm in enumerate(numbers.arms):
        band = bands[arm]
        if band is not None:
            lines.append(Line(index, band.steps, band.mean, band.low, band.high))
            values.append(words("figure.last value", arm=named(arm, numbers, words), value=f"{band.mean[-1]:.3g}"))
    if not lines:
        return None
    description = words("figure.panel description", title=title, values=words.join(values))
    return Titled(title, Panel(key, description, words("figure.optimizer step"), tuple(lines), limits))


def _scaled(band: Band | None, factor: float) -> Band | None:
    if band is None:
        return None
    return dataclasses.replace(band, mean=factor * band.mean, low=factor * band.low, high=factor * band.high)


def _limits(bands: list[Band | None]) -> tuple[float, float] | None:
    shown = [band for band in bands if band is not None]
    if not shown:
        return None
    low, high = min(float(band.low.min()) for band in shown), max(float(band.high.max()) for band in shown)
    # A constant still needs an axis around it.
    space = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - space, high + space


# --- pilot ----------------------------------------------------------------------------------------


def _pilot_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    complete, started = numbers.pilot_blocks
    if numbers.pilot is None:
        return (words("method.pilot none", complete=complete, started=started),)
    return (words("method.pilot text"), *(words.text(note) for note in numbers.pilot.notes))


def _pilot_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    pilot = numbers.pilot
    if pilot is None:
        return None

    def plain(value: float) -> str:
        return format_points(value, signed=False)

    correlation = words("report.none")
    if pilot.correlation is not None:
        correlation = f"{pilot.correlation:.2f}"
        if pilot.correlation_low is not None and pilot.correlation_high is not None:
            correlation += f" [{pilot.correlation_low:.2f}, {pilot.correlation_high:.2f}]"
    rows = [
        (words("method.pilot blocks"), str(pilot.n)),
        (words("method.pilot mean"), f"{digits.points(pilot.mean_difference)} ({format_p(pilot.p)})"),
        (
            words("method.pilot sd"),
            f"{plain(pilot.sd_paired)} [{plain(pilot.sd_paired_low)}, {plain(pilot.sd_paired_high)}]",
        ),
        (words("method.pilot single"), plain(pilot.sd_single)),
        (words("method.pilot correlation"), correlation),
        (words("method.pilot pairing"), words(f"method.{pilot.pairing}")),
        *_false_positives(pilot, words),
        *((words("method.pilot margin", n=n), f"±{plain(margin)}") for n, margin in pilot.margins.items()),
    ]
    columns = (Column(words("method.quantity")), Column(words("method.value"), numeric=True))
    return Table(words("method.pilot"), columns, tuple(Row((Cell(term), Cell(value))) for term, value in rows))


def _false_positives(pilot: Pilot, words: Catalogue) -> list[tuple[str, str]]:
    if pilot.false_positives is None:
        return []
    found = words("method.false positives value", found=f"{pilot.false_positives:.1%}", level=f"{pilot.level:.1%}")
    return [(words("method.pilot false positives"), found)]


# --- method ---------------------------------------------------------------------------------------


def _method(numbers: StudyNumbers, words: Catalogue) -> tuple[Fact, ...]:
    study, score, facts = numbers.study, numbers.score, numbers.facts
    seeds = "0" if study.blocks == 1 else f"0–{study.blocks - 1}"
    looks = words.join([str(blocks) for blocks in study.looks or ()])
    own = study.command is None
    design = words(
        "method.design text" if study.looks is None else "method.design looks",
        arms=len(study.arms),
        blocks=study.blocks,
        runs=len(study.arms) * study.blocks,
        seeds=seeds,
        futility=words("method.design futility") if study.futility else "",
        shared=words("method.block shares" if study.command is None else "method.block shares command"),
    )
    intervals = words(
        "method.intervals text" if study.looks is None else "method.intervals looks",
        alpha=f"{study.alpha:g}",
        families=families(numbers, words),
        joint=format_level(1 - study.alpha),
    )
    verdicts = words(
        "method.verdicts text" if study.looks is None else "method.verdicts looks",
        margin=f"{study.margin:g}",
        looks=looks,
    )
    scoring = words("method.scoring given")
    if numbers.has_images:
        scoring = words("method.scoring text", images=len(score.images), split=score.split)
    command = facts.get("command")
    options = [f"{name} = {_value(value)}" for name, value in sorted(flatten(study.options).items())]
    found = [
        Fact(words("method.design"), (design,)),
        Fact(words("method.intervals"), (intervals,)),
        Fact(words("method.verdicts"), (verdicts,)),
        Fact(words("method.failed runs"), (words("method.failed text"),)),
        Fact(words("method.scoring"), (scoring, absent_sentence(numbers, words)) if score.class_names else (scoring,)),
        Fact(words("method.text head", arm=study.baseline), (_text_sentence(numbers, study.baseline, words),))
        if own
        else None,
        Fact(words("method.data"), (data_sentence(numbers, words),)),
        Fact(words("method.recipe"), code=_recipe(numbers)) if _recipe(numbers) else None,
        Fact(words("method.options"), code=tuple(options)) if options else None,
        Fact(words("method.command"), code=(str(command),))
        if command
        else Fact(words("method.command"), (words("report.not recorded"),)),
        Fact(words("method.machine"), (cost_sentence(numbers, words),)),
    ]
    return tuple(fact for fact in found if fact is not None)


def _text_sentence(numbers: StudyNumbers, arm: str, words: Catalogue) -> str:
    text = numbers.text_of(arm)
    kind = text.get("kind")
    shown = [] if kind is None else [words(f"common.text {kind}") if kind in get_args(TextKind) else str(kind)]
    shown += [f"{key}: {_value(text[key])}" for key in ("encoder", "sentences", "tokens") if text.get(key) is not None]
    return words("report.detail separator").join(shown) or words("report.not recorded")


_RECIPE = (
    "data.size",
    "data.depth",
    "text.encoder",
    "text.templates",
    "model.size",
    "model.preset",
    "model.classifier",
    "train.epochs",
    "train.batch_size",
    "train.lr",
    "train.scalar_lr",
    "train.average",
)


def _recipe(numbers: StudyNumbers) -> tuple[str, ...]:
    """Return the main options as the baseline's runs resolved them."""
    for run in numbers.runs_of(numbers.study.baseline):
        config = run.facts.get("config")
        if isinstance(config, Mapping):
            flat = flatten(config)
            return tuple(f"{name} = {_value(flat[name])}" for name in _RECIPE if name in flat)
    return ()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _arms_table(numbers: StudyNumbers, words: Catalogue) -> Table:
    rows = []
    for arm in numbers.arms:
        own = words.join([f"{name} = {_value(value)}" for name, value in numbers.own_options_of(arm).items()])
        mark = words("report.leaking") if arm in numbers.leaking else ""
        rows.append(
            Row(
                (Cell(arm, mark=mark), Cell(own or words("table.as shared")), Cell(_text_sentence(numbers, arm, words)))
            )
        )
    columns = (Column(words("table.arm")), Column(words("table.own options")), Column(words("table.text")))
    kept = 2 if numbers.study.command is not None else 3
    rows = [Row(row.cells[:kept]) for row in rows]
    notes = (words("table.leaking note"),) if numbers.leaking else ()
    return Table(words("table.arms title"), columns[:kept], tuple(rows), notes)
