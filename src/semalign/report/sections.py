"""What the report says beside its main tables: looks, factors, classes, images, claims, what would change a verdict.

Texts and tables from numbers; this module knows nothing of HTML, LaTeX or drawing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semalign.judge import Estimate, Judgement, Look, Verdict, format_points
from semalign.judge.advice import advise
from semalign.judge.claims import STATEMENTS, Claim, judge_claims, needs_of
from semalign.judge.contrasts import aliases
from semalign.judge.evidence import Evidence
from semalign.judge.looks import FUTILE
from semalign.judge.new_images import FEWEST_CLUSTERS
from semalign.report.change import LARGEST_SHIFT, Change, changes_of
from semalign.report.differences import ImageChange, ImageChanges, NewImagesAnswer, class_changes, primary_estimates
from semalign.report.evidence import SPIKE, gate_effects
from semalign.report.images import picture_of, picture_of_scene, scenes_of
from semalign.report.numbers import StudyNumbers
from semalign.report.tables import (
    Cell,
    Column,
    Digits,
    Picture,
    Row,
    Table,
    contrast_mark,
    effect_name,
    level_of_means,
    verdict_text,
)
from semalign.wording import Catalogue, Message

__all__ = [
    "Interaction",
    "MainEffect",
    "advice_table",
    "aliases_table",
    "change_sentences",
    "changes_table",
    "claims_table",
    "class_changes_table",
    "data_pictures",
    "image_changes_table",
    "interactions_of",
    "levels_table",
    "look_sentence",
    "looks_sentences",
    "looks_table",
    "main_effects_of",
    "new_images_sentences",
    "new_images_table",
]


# --- looks ----------------------------------------------------------------------------------------


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


def chance_text(chance: float) -> str:
    """Return a chance as percent, never as 0 or 100 unless it is.

    >>> chance_text(0.123), chance_text(0.001), chance_text(0.9999)
    ('12 %', '< 1 %', '> 99 %')
    """
    if 0 < chance < 0.01:
        return "< 1 %"
    if 0.99 < chance < 1:
        return "> 99 %"
    return f"{100 * chance:.0f} %"


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


# --- factors --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MainEffect:
    """Mean mIoU (points) by level of one factor: over all complete blocks, and blocks x levels."""

    factor: str
    levels: tuple[str, ...]
    mean: tuple[float, ...]
    blocks: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Interaction:
    """Mean mIoU (points) by level of ``one`` (columns) for each level of ``other`` (rows)."""

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
        scores[arm] = np.array([100 * score.miou for score in found if score is not None])
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
    """Return the mean mIoU by factor and level; None where there is none."""
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
        Column(words("table.miou"), numeric=True),
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


# --- classes and images ---------------------------------------------------------------------------


def class_changes_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    """Return the effects (columns) on each class (rows), for reading; None where there is none."""
    estimates = primary_estimates(numbers)
    none = words("report.none")
    by_effect = [{change.name: change for change in class_changes(numbers, estimate)} for estimate in estimates]
    names = [name for name in numbers.score.class_names if any(name in changes for changes in by_effect)]
    if not names:
        return None
    rows = []
    for name in names:
        cells = [Cell(name)]
        for changes in by_effect:
            change = changes.get(name)
            cells.append(Cell(none if change is None else digits.effect(change.mean, change.low, change.high, none)))
        rows.append(Row(tuple(cells)))
    columns = (
        Column(words("table.class")),
        *(Column(effect_name(one, numbers, words), numeric=True) for one in estimates),
    )
    chance = numbers.study.alpha * len(names)
    note = words("report.class changes text", level=level_of_means(numbers), n=len(names), chance=f"{chance:.2g}")
    return Table(words("table.class changes title"), columns, tuple(rows), (note,))


Pictures: TypeAlias = Callable[[str], str | None]
"""By an image's name the address of its picture, None where there is none."""


def data_pictures(numbers: StudyNumbers) -> Pictures | None:
    """Return what shows the scored images: the data folder, or scenes drawn again; None where neither can be had."""
    data = numbers.facts.get("data")
    if not isinstance(data, Mapping):
        return None
    split = numbers.score.split
    if data.get("root"):
        root = Path(str(data["root"]))
        return functools.partial(picture_of, root, split) if (root / "images" / split).is_dir() else None
    scenes = scenes_of(data, split)
    return None if scenes is None else functools.partial(picture_of_scene, scenes, split)


def image_changes_table(
    numbers: StudyNumbers, changes: ImageChanges, show: Pictures | None, words: Catalogue, digits: Digits
) -> Table:
    """Return the images that gain and lose most; with the pictures that ``show`` has."""
    none = words("report.none")
    pictures = {
        change.name: address
        for change in (*changes.gains, *changes.losses)
        if show is not None and (address := show(change.name)) is not None
    }
    rows = []

    def row(change: ImageChange) -> Row:
        cells = [Cell(PurePath(change.name).name)]
        if pictures:
            address = pictures.get(change.name)
            alt = words("table.picture alt", name=change.name)
            cells.append(Cell("" if address else none, picture=Picture(address, alt) if address else None))
        cells += [
            Cell(digits.points(change.mean)),
            Cell(none if change.sd is None else digits.points(change.sd, signed=False)),
            Cell(words("table.agree value", n=change.agree, blocks=change.blocks)),
        ]
        return Row(tuple(cells))

    rows = [row(change) for change in (*changes.gains, *reversed(changes.losses))]
    columns = [Column(words("table.image"))]
    if pictures:
        columns.append(Column(words("table.picture")))
    columns += [Column(words(f"table.{head}"), numeric=True) for head in ("gain head", "sd seeds", "agree")]
    estimate, _ = numbers.judgement.of(changes.contrast.name)
    title = words("table.image changes title", effect=effect_name(estimate, numbers, words))
    return Table(title, tuple(columns), tuple(rows), (words("table.image changes note"),))


# --- new images -----------------------------------------------------------------------------------

_FRAME = re.compile(r"\d+$")


def suspected_sequences(images: Sequence[str]) -> int | None:
    """Return the number of sequences whose frames the images seem to be, by names that differ in a last number alone.

    None where the names do not say so: where some end in no number, or stand alone.

    >>> suspected_sequences(["a_01", "a_02", "b_07", "b_08"]), suspected_sequences(["one", "two"])
    (2, None)
    """
    stems = [PurePath(name).stem for name in images]
    heads = [_FRAME.sub("", stem) for stem in stems]
    if any(head == stem for head, stem in zip(heads, stems, strict=True)):
        return None
    found = len(set(heads))
    return found if 2 * found <= len(stems) else None


def new_images_sentences(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue) -> tuple[str, ...]:
    """Return what the verdicts speak of, and whether they hold for new images too, or why that is not judged."""
    said = [words("report.new images text", images=answer.images)] if answer.images else []
    if answer.refused is not None:
        return (*said, words(f"report.new images {answer.refused}", clusters=answer.clusters, fewest=FEWEST_CLUSTERS))
    if answer.named:
        return (*said, words("report.new images clusters", clusters=answer.clusters))
    said.append(words("report.new images own"))
    sequences = suspected_sequences(numbers.score.images)
    if sequences is not None:
        said.append(words("report.new images suspect", n=sequences))
    return tuple(said)


def new_images_table(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits) -> Table | None:
    """Return both questions' answers side by side; None where new images are not judged."""
    if not answer.judged:
        return None
    rows = []
    for one, estimate, verdict in zip(
        answer.judged, numbers.judgement.estimates, numbers.judgement.verdicts, strict=True
    ):
        total = one.se**2
        share = 0.0 if total == 0 else max(0.0, 1 - one.variance_seeds / total)
        rows.append(
            Row(
                (
                    Cell(one.contrast.name, mark=contrast_mark(estimate, numbers, words)),
                    Cell(digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none"))),
                    Cell(words(f"verdict.{verdict.word}"), word=verdict.word),
                    Cell(digits.effect(one.mean, one.low, one.high, words("report.none"))),
                    Cell(_bare_word(one.verdict, words), word=one.verdict.word),
                    Cell(f"{100 * share:.0f} %"),
                )
            )
        )
    columns = (
        Column(words("table.effect name")),
        Column(words("table.on these"), numeric=True),
        Column(words("table.verdict")),
        Column(words("table.on new"), numeric=True),
        Column(words("table.verdict")),
        Column(words("table.share images"), numeric=True),
    )
    return Table(words("table.new images title"), columns, tuple(rows), (words("table.new images note"),))


def _bare_word(verdict: Verdict, words: Catalogue) -> str:
    word = words(f"verdict.{verdict.word}")
    return words("answer.below margin", word=word) if verdict.below_margin else word


# --- claims ---------------------------------------------------------------------------------------

_TONES = {"supported": "better", "refuted": "worse", "undecided": "inconclusive"}


def claims_table(numbers: StudyNumbers, evidence: Evidence, words: Catalogue) -> Table:
    """Return every statement of the document with its answer and the numbers behind it."""
    answered = {claim.id: claim for claim in judge_claims(evidence)}
    rows = tuple(_claim_row(identity, answered.get(identity), words) for identity in STATEMENTS)
    columns = (
        Column(words("table.statement")),
        Column(words("table.answer head")),
        Column(words("table.finding head")),
    )
    note = words(
        "table.claims note",
        level=level_of_means(numbers),
        n=len(numbers.judged_seeds),
        looks=words("table.claims note looks") if numbers.judgement.moments else "",
        spike=SPIKE,
    )
    return Table(words("table.claims title"), columns, rows, (note,))


def _claim_row(identity: str, claim: Claim | None, words: Catalogue) -> Row:
    statement = Cell(words(f"claim.statement {identity}"))
    if claim is None:
        need = words("claim.silent why", need=needs_of(identity))
        return Row((statement, Cell(words("claim.silent")), Cell(need)))
    answer = Cell(words.text(claim.word), word=_TONES[claim.answer])
    return Row((statement, answer, Cell(words.text(claim.finding))))


def advice_table(numbers: StudyNumbers, evidence: Evidence, words: Catalogue, digits: Digits) -> Table:
    """Return what to do in the document's three situations, and why."""
    rows = []
    for advice in advise(evidence, judge_claims(evidence)):
        reasons = [_reason(reason, numbers, words, digits) for reason in advice.reasons]
        rows.append(
            Row(
                (
                    Cell(words.text(advice.when)),
                    Cell(words.run_on(*advice.recommendations)),
                    Cell(words.run_on(*reasons)),
                )
            )
        )
    columns = (Column(words("table.situation")), Column(words("report.advice")), Column(words("table.reasons head")))
    return Table(words("report.advice"), columns, tuple(rows), (words("report.advice text"),))


def _reason(reason: Message, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> str:
    apart = gate_effects(numbers) if reason.key == "claim.why gates unknown" else ()
    if not apart:
        return words.text(reason)
    shown = []
    for name in apart:
        estimate, verdict = numbers.judgement.of(name)
        figure = digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none"))
        shown.append(words("report.gate effect", effect=name, figure=figure, word=words(f"verdict.{verdict.word}")))
    return words("report.gates apart", effects=words("report.detail separator").join(shown))


# --- what would change ----------------------------------------------------------------------------


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
                    Cell(_one_block(change, words)),
                    Cell(_without(change, words)),
                )
            )
        )
    heads = ("effect name", "verdict", "at this spread", "one block head", "without head")
    columns = tuple(Column(words(f"table.{head}")) for head in heads)
    return Table(words("table.changes title"), columns, tuple(rows), (words("table.changes note"),))


def _thresholds(change: Change, words: Catalogue, digits: Digits) -> str:
    found = change.thresholds
    if found is None:
        return words("report.none")
    direction = digits.points(found.direction, signed=False)
    if found.equivalent is None:
        return words("table.thresholds no", direction=direction)
    return words("table.thresholds", direction=direction, equivalent=digits.points(found.equivalent, signed=False))


def _one_block(change: Change, words: Catalogue) -> str:
    if change.by_lost:
        return words("table.by lost", n=change.lost)
    if change.thresholds is None or change.lost:
        return words("report.none")
    if change.one_block is None:
        return words("table.one block none", largest=LARGEST_SHIFT)
    one = change.one_block
    return words("table.one block", shift=format_points(one.shift), seed=one.seed, word=words(f"verdict.{one.word}"))


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
