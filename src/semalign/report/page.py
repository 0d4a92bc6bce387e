"""The report as plain data, in the order in which it is read: question, answer, evidence, method, what would change it.

It holds texts, tables and figures to be drawn; it knows nothing of HTML.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from semalign.config.reader import flatten
from semalign.judge import Contrast, Estimate, Judgement, Verdict, format_level, format_p, format_points
from semalign.report.figures import EffectMark, Line, Panel, line_style
from semalign.report.numbers import (
    Band,
    SiteGroup,
    StudyNumbers,
    curve_band,
    site_band,
    site_groups,
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
    effects_table,
    failures_table,
    families,
    margin_sentence,
    named,
    needs_table,
    state_sentences,
    study_tables,
    text_sentences,
    verdict_text,
    watch_sentences,
)
from semalign.report.words import Words

__all__ = ["Card", "EffectsFigure", "Fact", "Group", "Legend", "Page", "Titled", "build_page"]


@dataclasses.dataclass(frozen=True)
class Card:
    """One effect's answer.

    Attributes:
        name: of the contrast.
        question: that it answers.
        word: the verdict in English, which colours it.
        verdict: the verdict as it is read.
        sentence: the answer in plain words.
        reason: the verdict's own sentence with all numbers, in English.
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
class EffectsFigure:
    """A plot of the effects of one family."""

    key: str
    title: str
    description: str
    marks: tuple[EffectMark, ...]
    margin: float
    x_label: str
    margin_label: str


@dataclasses.dataclass(frozen=True)
class Titled:
    """A panel with its title."""

    title: str
    panel: Panel


@dataclasses.dataclass(frozen=True)
class Legend:
    """One entry of a legend: the line's colour (of --c0 to --c7), its dashes, the arm."""

    label: str
    colour: int
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
class Fact:
    """A term with what is to be said about it; ``code`` lines are set as they are."""

    term: str
    sentences: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Page:
    """Everything that the report says, in order."""

    lang: str
    name: str
    question: str
    source: str
    summary: str
    state: tuple[str, ...]
    text_sentences: tuple[str, ...]
    tally: str
    cards: tuple[Card, ...]
    tables: tuple[Table, ...]
    effects: tuple[EffectsFigure, ...]
    effects_table: Table
    groups: tuple[Group, ...]
    classes: Table
    pilot: Table | None
    pilot_sentences: tuple[str, ...]
    cost: Table
    failures: Table | None
    method: tuple[Fact, ...]
    arms: Table
    needs: Table
    change: tuple[str, ...]
    watch: tuple[str, ...]


def build_page(numbers: StudyNumbers, words: Words) -> Page:
    """Return the report of a study in one language."""
    digits = Digits(numbers.study.margin)
    judgement = numbers.judgement
    return Page(
        lang="zh-CN" if words.lang == "zh" else "en",
        name=numbers.study.name,
        question=words.known(numbers.study.question),
        source=words("source", source=numbers.study.source) if numbers.study.source else "",
        summary=data_sentence(numbers, words),
        state=state_sentences(numbers, words),
        text_sentences=text_sentences(numbers, words, digits),
        tally=_tally(judgement, words),
        cards=tuple(
            _card(estimate, verdict, numbers, words, digits)
            for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
            if estimate.contrast.family == "primary"
        ),
        tables=_notes_once(study_tables(numbers, words, digits)),
        effects=_effects_figures(numbers, words, digits),
        effects_table=effects_table(numbers, words, digits),
        groups=_groups(numbers, words),
        classes=classes_table(numbers, words, digits),
        pilot=_pilot_table(numbers, words, digits),
        pilot_sentences=_pilot_sentences(numbers, words),
        cost=cost_table(numbers, words, digits),
        failures=failures_table(numbers, words),
        method=_method(numbers, words),
        arms=_arms_table(numbers, words),
        needs=needs_table(numbers, words),
        change=(
            margin_sentence(numbers, words),
            words("change margin", margin=f"{numbers.study.margin:g}"),
            words("change data"),
        ),
        watch=watch_sentences(numbers, words),
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


def _tally(judgement: Judgement, words: Words) -> str:
    found = [
        verdict.word
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
        if estimate.contrast.family == "primary"
    ]
    kinds = ("better", "worse", "equivalent", "inconclusive")
    counted = [words("tally word", n=found.count(kind), word=words(kind)) for kind in kinds if kind in found]
    decided = sum(word != "inconclusive" for word in found)
    return words("tally", total=len(found), decided=decided, words=words.join(counted)) if found else ""


def _card(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Words, digits: Digits) -> Card:
    contrast = estimate.contrast
    return Card(
        name=contrast.name,
        question=_question(contrast, words),
        word=verdict.word,
        verdict=verdict_text(verdict, words),
        sentence=plain_sentence(estimate, verdict, numbers.study.margin, words, digits),
        reason=verdict.reason,
        mark=words("leaking") if numbers.leaking & set(contrast.weights) else "",
    )


def _question(contrast: Contrast, words: Words) -> str:
    known = words.known(contrast.question)
    weights = list(contrast.weights.items())
    if known == contrast.question and sorted(contrast.weights.values()) == [-1.0, 1.0]:
        (first,) = (arm for arm, weight in weights if weight > 0)
        (second,) = (arm for arm, weight in weights if weight < 0)
        if words.lang == "zh" or not contrast.question:
            return words("question generic", first=first, second=second)
    return known


def plain_sentence(estimate: Estimate, verdict: Verdict, margin: float, words: Words, digits: Digits) -> str:
    """Return the answer in plain words, from the same numbers as the verdict's reason."""
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return words("plain: no interval", n=estimate.n)
    values = {
        "mean": digits.points(estimate.mean),
        "interval": digits.interval(estimate.low, estimate.high),
        "margin": f"{margin:g}",
    }
    if verdict.word in ("better", "worse"):
        called = estimate.contrast.above if verdict.word == "better" else estimate.contrast.below
        if called in ("better", "worse"):
            called = words(f"{called} called")
        else:
            called = words.known(called)
            called = called[:1].upper() + called[1:]
        beyond = max(estimate.low, -estimate.high) > margin
        key = "below" if verdict.below_margin else "beyond" if beyond else "direction"
        return words(f"plain: {key}", called=called, **values)
    if verdict.word == "equivalent":
        assert estimate.low_equivalence is not None
        assert estimate.high_equivalence is not None
        inner = digits.interval(estimate.low_equivalence, estimate.high_equivalence)
        return words("plain: equivalent", inner=inner, **values)
    if verdict.blocks_needed is None:
        return words("plain: other")
    return words(
        "plain: inconclusive",
        n=estimate.n,
        low=digits.points(estimate.low),
        high=digits.points(estimate.high),
        needed=verdict.blocks_needed,
    )


# --- figures --------------------------------------------------------------------------------------


def _effects_figures(numbers: StudyNumbers, words: Words, digits: Digits) -> tuple[EffectsFigure, ...]:
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
            values = words("detail separator").join(f"{mark.label} {mark.figure}" for mark in marks)
            figures.append(
                EffectsFigure(
                    key=f"effects-{index}",
                    title=words(family) if family in ("primary", "controls") else family,
                    description=words("effects description", margin=margin, values=values),
                    marks=marks,
                    margin=numbers.study.margin,
                    x_label=words("effects axis"),
                    margin_label=words("margin band", margin=margin),
                )
            )
    return tuple(figures)


def _mark(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Words, digits: Digits) -> EffectMark:
    name = estimate.contrast.name
    leaks = bool(numbers.leaking & set(estimate.contrast.weights))
    assert estimate.mean is not None
    return EffectMark(
        label=words("with leaking", arm=name) if leaks else name,
        figure=f"{digits.effect(estimate.mean, estimate.low, estimate.high, '')} {words(verdict.word)}",
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


def _groups(numbers: StudyNumbers, words: Words) -> tuple[Group, ...]:
    training = [
        _panel(
            f"training-{index}",
            words(name),
            {arm: _scaled(curve_band(numbers, arm, name), factor) for arm in numbers.arms},
            numbers,
            words,
        )
        for index, (name, factor) in enumerate((("train/loss", 1.0), ("val/miou", 100.0), ("train/miou", 100.0)))
    ]
    groups = [_group("training", words("training text"), [training], numbers, words)]
    for key, quantities in (
        ("knobs", ("scale", "logit_size", "gate")),
        ("fusion", ("strength", "entropy")),
        ("stability", ("grad_norm",)),
    ):
        rows = [row for quantity in quantities for row in _site_panels(key, quantity, numbers, words)]
        if rows or key != "stability":
            groups.append(_group(key, words(f"{key} text"), rows, numbers, words))
    return tuple(groups)


def _site_panels(key: str, quantity: str, numbers: StudyNumbers, words: Words) -> list[list[Titled | None]]:
    """Return one row of panels for the encoder's stages, one for the decoder's levels, one for other sites."""
    places = site_groups(numbers, quantity)
    bands = {place: {arm: site_band(numbers, arm, place, quantity) for arm in numbers.arms} for place in places}
    panels = [
        _panel(
            f"{key}-{quantity.replace('_', '-')}-{index}",
            words("panel title", quantity=words(quantity), place=_place(place, words)),
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


def _place(group: SiteGroup, words: Words) -> str:
    return words(group.side, index=group.index, site=group.site)


def _group(key: str, text: str, rows: list[list[Titled | None]], numbers: StudyNumbers, words: Words) -> Group:
    drawn = tuple(tuple(panel for panel in row if panel is not None) for row in rows)
    drawn = tuple(row for row in drawn if row)
    styles = {line.style for row in drawn for panel in row for line in panel.panel.lines}
    legend = []
    for index, arm in enumerate(numbers.arms):
        if index in styles:
            colour, dashes = line_style(index)
            # Dashes are in widths of the line, which is 2 pixels in the legend.
            pattern = " ".join(f"{2 * length:g}" for length in dashes)
            legend.append(Legend(named(arm, numbers, words), colour, pattern))
    return Group(key, words(key), text if drawn else words("no curves"), tuple(legend), drawn)


def _panel(
    key: str,
    title: str,
    bands: Mapping[str, Band | None],
    numbers: StudyNumbers,
    words: Words,
    limits: tuple[float, float] | None = None,
) -> Titled | None:
    lines, values = [], []
    for index, arm in enumerate(numbers.arms):
        band = bands[arm]
        if band is not None:
            lines.append(Line(index, band.steps, band.mean, band.low, band.high))
            values.append(words("last value", arm=named(arm, numbers, words), value=f"{band.mean[-1]:.3g}"))
    if not lines:
        return None
    description = words("panel description", title=title, values=words.join(values))
    return Titled(title, Panel(key, description, words("optimizer step"), tuple(lines), limits))


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


def _pilot_sentences(numbers: StudyNumbers, words: Words) -> tuple[str, ...]:
    complete, started = numbers.pilot_blocks
    if numbers.pilot is None:
        return (words("pilot none", complete=complete, started=started),)
    return (words("pilot text"), *numbers.pilot.notes)


def _pilot_table(numbers: StudyNumbers, words: Words, digits: Digits) -> Table | None:
    pilot = numbers.pilot
    if pilot is None:
        return None

    def plain(value: float) -> str:
        return format_points(value, signed=False)

    correlation = words("none")
    if pilot.correlation is not None:
        correlation = f"{pilot.correlation:.2f}"
        if pilot.correlation_low is not None and pilot.correlation_high is not None:
            correlation += f" [{pilot.correlation_low:.2f}, {pilot.correlation_high:.2f}]"
    rows = [
        (words("pilot blocks"), str(pilot.n)),
        (words("pilot mean"), f"{digits.points(pilot.mean_difference)} ({format_p(pilot.p)})"),
        (words("pilot sd"), f"{plain(pilot.sd_paired)} [{plain(pilot.sd_paired_low)}, {plain(pilot.sd_paired_high)}]"),
        (words("pilot single"), plain(pilot.sd_single)),
        (words("pilot correlation"), correlation),
        (words("pilot pairing"), words(pilot.pairing)),
        *((words("pilot margin", n=n), f"±{plain(margin)}") for n, margin in pilot.margins.items()),
    ]
    columns = (Column(words("quantity")), Column(words("value"), numeric=True))
    return Table(words("pilot"), columns, tuple(Row((Cell(term), Cell(value))) for term, value in rows))


# --- method ---------------------------------------------------------------------------------------


def _method(numbers: StudyNumbers, words: Words) -> tuple[Fact, ...]:
    study, score, facts = numbers.study, numbers.score, numbers.facts
    seeds = "0" if study.blocks == 1 else f"0–{study.blocks - 1}"
    design = words(
        "design text", arms=len(study.arms), blocks=study.blocks, runs=len(study.arms) * study.blocks, seeds=seeds
    )
    intervals = words(
        "intervals text",
        alpha=f"{study.alpha:g}",
        families=families(numbers, words),
        joint=format_level(1 - study.alpha),
    )
    scoring = words("scoring text", images=len(score.images), split=score.split, weights=_weights(numbers, words))
    command = facts.get("command")
    options = [f"{name} = {_value(value)}" for name, value in sorted(flatten(study.options).items())]
    found = [
        Fact(words("design"), (design,)),
        Fact(words("intervals"), (intervals,)),
        Fact(words("verdicts"), (words("verdicts text", margin=f"{study.margin:g}"),)),
        Fact(words("failed runs"), (words("failed text"),)),
        Fact(words("scoring"), (scoring, absent_sentence(numbers, words))),
        Fact(words("text head", arm=study.baseline), (_text_sentence(numbers, study.baseline, words),)),
        Fact(words("data"), (data_sentence(numbers, words),), _fingerprints(facts, words)),
        Fact(words("recipe"), code=_recipe(numbers)) if _recipe(numbers) else None,
        Fact(words("options"), code=tuple(options)) if options else None,
        Fact(words("command"), code=(str(command),)) if command else Fact(words("command"), (words("not recorded"),)),
        _plan(numbers, words),
        Fact(words("versions"), (_pairs(facts.get("versions"), words),)),
        Fact(words("machine"), (cost_sentence(numbers, words),)),
    ]
    return tuple(fact for fact in found if fact is not None)


def _plan(numbers: StudyNumbers, words: Words) -> Fact | None:
    """Return what was planned before the first run; None where the plan was not kept."""
    plan = numbers.plan
    if plan is None or not {"runs", "hours", "workers", "precision"} <= plan.keys():
        return None
    said = [words("plan text", runs=plan["runs"], hours=f"{plan['hours']:.2g}", workers=plan["workers"])]
    said += [
        words(
            "plan precision",
            sd=format_points(row["sd"], signed=False),
            origin=words(f"sd {plan.get('sd_from', 'assumed')}"),
            resolved=format_points(row["resolvable_margin"], signed=False),
            blocks=row["blocks_for_margin"],
        )
        for row in plan["precision"]
    ]
    return Fact(words("plan"), tuple(said))


def _weights(numbers: StudyNumbers, words: Words) -> str:
    kinds = sorted({str(run.facts.get("scored_weights", words("not recorded"))) for run in numbers.finished.values()})
    return words.join([words(kind) if kind in ("average", "last") else kind for kind in kinds])


def _text_sentence(numbers: StudyNumbers, arm: str, words: Words) -> str:
    text = numbers.text_of(arm)
    shown = [str(text["meaning"])] if text.get("meaning") else [str(text["kind"])] if text.get("kind") else []
    shown += [f"{key}: {_value(text[key])}" for key in ("encoder", "sentences", "tokens") if text.get(key) is not None]
    return words("detail separator").join(shown) or words("not recorded")


def _fingerprints(facts: Mapping[str, Any], words: Words) -> tuple[str, ...]:
    data = facts.get("data")
    prints = data.get("fingerprints") if isinstance(data, Mapping) else None
    if not isinstance(prints, Mapping):
        return ()
    return tuple(words("fingerprint", split=split, sha=sha) for split, sha in prints.items())


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


def _pairs(value: Any, words: Words) -> str:
    if not isinstance(value, Mapping) or not value:
        return words("not recorded")
    return words.join([f"{name} {_value(item)}" for name, item in value.items()])


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _arms_table(numbers: StudyNumbers, words: Words) -> Table:
    rows = []
    for arm in numbers.arms:
        own = words.join([f"{name} = {_value(value)}" for name, value in numbers.own_options_of(arm).items()])
        mark = words("leaking") if arm in numbers.leaking else ""
        rows.append(
            Row((Cell(arm, mark=mark), Cell(own or words("as shared")), Cell(_text_sentence(numbers, arm, words))))
        )
    columns = (Column(words("arm")), Column(words("own options")), Column(words("text")))
    notes = (words("leaking note"),) if numbers.leaking else ()
    return Table(words("arms title"), columns, tuple(rows), notes)
